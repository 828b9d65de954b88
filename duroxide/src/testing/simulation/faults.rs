//! Which things go wrong, and how often with a seed.

use std::time::Duration;

use super::dice::Dice;

/// Which things may go wrong in a [`Simulation`](super::Simulation). Each seed takes some of them, each as often as the
/// seed says: some seeds are calm, some are storms, some have one kind of trouble only.
///
/// ```
/// use duroxide::testing::Faults;
/// let gentle = Faults::none().delays(true).restarts(true);
/// assert_ne!(gentle, Faults::all());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Faults {
    pub(super) delays: bool,
    pub(super) errors: bool,
    pub(super) lost_answers: bool,
    pub(super) late: bool,
    pub(super) crashes: bool,
    pub(super) restarts: bool,
    pub(super) outages: bool,
    pub(super) lost_leases: bool,
    pub(super) skew: bool,
    pub(super) evictions: bool,
}

impl Faults {
    /// All of them.
    pub const fn all() -> Self {
        Self::each(true)
    }

    /// None of them: only the order in which things happen depends on the seed.
    pub const fn none() -> Self {
        Self::each(false)
    }

    const fn each(on: bool) -> Self {
        Self {
            delays: on,
            errors: on,
            lost_answers: on,
            late: on,
            crashes: on,
            restarts: on,
            outages: on,
            lost_leases: on,
            skew: on,
            evictions: on,
        }
    }

    /// Calls of the storage, their answers, its signals, and activities take time, from milliseconds to seconds.
    pub const fn delays(mut self, on: bool) -> Self {
        self.delays = on;
        self
    }

    /// Calls of the storage fail without having been carried out; commits also in part.
    pub const fn errors(mut self, on: bool) -> Self {
        self.errors = on;
        self
    }

    /// Calls of the storage are carried out, and answered with an error.
    pub const fn lost_answers(mut self, on: bool) -> Self {
        self.lost_answers = on;
        self
    }

    /// Commits, submissions and questions for work fail, and are carried out afterwards: perhaps after they were sent again, or
    /// after the node that sent them has died.
    pub const fn late(mut self, on: bool) -> Self {
        self.late = on;
        self
    }

    /// Nodes die, between any two steps, and come back later. Death is noticed at once or after a while.
    pub const fn crashes(mut self, on: bool) -> Self {
        self.crashes = on;
        self
    }

    /// Nodes are shut down in order, and come back later.
    pub const fn restarts(mut self, on: bool) -> Self {
        self.restarts = on;
        self
    }

    /// The storage cannot be reached for seconds, by one node or by all.
    pub const fn outages(mut self, on: bool) -> Self {
        self.outages = on;
        self
    }

    /// Living nodes are taken for dead, and what they own is taken over while they still work.
    pub const fn lost_leases(mut self, on: bool) -> Self {
        self.lost_leases = on;
        self
    }

    /// The clocks of the nodes differ by up to two minutes, and are set while the nodes run.
    pub const fn skew(mut self, on: bool) -> Self {
        self.skew = on;
        self
    }

    /// Live copies are dropped from memory as soon as they wait, or when there is more than one, and replayed later.
    pub const fn evictions(mut self, on: bool) -> Self {
        self.evictions = on;
        self
    }
}

/// What a seed makes of the faults: how often each happens, as a probability for each call, and how long things take.
pub(super) struct Plan {
    pub(super) delay: f64,
    pub(super) longest_delay: Duration,
    pub(super) longest_activity: Duration,
    pub(super) error: f64,
    pub(super) lost_answer: f64,
    pub(super) late: f64,
    pub(super) crash: f64,
    /// What else happens to nodes, and how many times.
    pub(super) trouble: Vec<Trouble>,
    pub(super) troubles: u64,
    /// The longest pause between two troubles.
    pub(super) pause: Duration,
    pub(super) skew: Duration,
    /// How many live copies may wait in memory.
    pub(super) max_idle_instances: Option<usize>,
}

/// What happens to a node from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Crash,
    Restart,
    Outage,
    LostLease,
    ClockSet,
}

impl Plan {
    pub(super) fn new(faults: Faults, dice: &mut Dice) -> Self {
        let mut taken = |on: bool| on && dice.chance(0.6);
        let Faults { delays, errors, lost_answers, late, crashes, restarts, outages, lost_leases, skew, evictions } =
            faults;
        let [delays, errors, lost_answers, late, crashes, restarts, outages, lost_leases, skew, evictions] =
            [delays, errors, lost_answers, late, crashes, restarts, outages, lost_leases, skew, evictions]
                .map(&mut taken);
        let troubles = [
            (crashes, Trouble::Crash),
            (restarts, Trouble::Restart),
            (outages, Trouble::Outage),
            (lost_leases, Trouble::LostLease),
            (skew, Trouble::ClockSet),
        ];
        let trouble: Vec<_> = troubles.into_iter().filter_map(|(on, trouble)| on.then_some(trouble)).collect();
        let mut often = |on: bool, rates: [f64; 3]| if on { rates[dice.index(rates.len())] } else { 0.0 };
        Self {
            delay: often(delays, [0.1, 0.5, 1.0]),
            error: often(errors, [0.02, 0.1, 0.3]),
            lost_answer: often(lost_answers, [0.02, 0.1, 0.3]),
            late: often(late, [0.02, 0.1, 0.3]),
            crash: often(crashes, [0.002, 0.01, 0.03]),
            longest_delay: Duration::from_millis([5, 50, 500, 5_000][dice.index(4)]),
            longest_activity: Duration::from_millis(if delays { [5, 500, 20_000][dice.index(3)] } else { 0 }),
            troubles: if trouble.is_empty() { 0 } else { dice.below(20) },
            trouble,
            pause: Duration::from_millis([100, 2_000, 20_000][dice.index(3)]),
            skew: if skew { Duration::from_millis([500, 10_000, 120_000][dice.index(3)]) } else { Duration::ZERO },
            max_idle_instances: evictions.then(|| dice.index(3)),
        }
    }
}
