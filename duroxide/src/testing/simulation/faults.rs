//! The kinds of faults, and the plan of a seed for them.

use std::time::Duration;

use super::dice::Dice;

/// The kinds of faults that a [`Simulation`](super::Simulation) may inject. Each seed chooses some of them, and a rate
/// for each: some seeds have no faults, some have many, some have a single kind.
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
    pub(super) pauses: bool,
}

impl Faults {
    /// Returns all kinds.
    pub const fn all() -> Self {
        Self::each(true)
    }

    /// Returns no kinds: only the values drawn by the scenario and the order of events depend on the seed.
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
            pauses: on,
        }
    }

    /// Calls of the storage, their answers, its signals, and activities take time, from milliseconds to seconds.
    pub const fn delays(mut self, on: bool) -> Self {
        self.delays = on;
        self
    }

    /// Calls of the storage fail and are not carried out. A commit may also fail in part.
    pub const fn errors(mut self, on: bool) -> Self {
        self.errors = on;
        self
    }

    /// Calls of the storage are carried out and answered with an error.
    pub const fn lost_answers(mut self, on: bool) -> Self {
        self.lost_answers = on;
        self
    }

    /// Commits, submissions and requests for work fail and are carried out later: perhaps after they were sent again,
    /// or after the node that sent them has crashed.
    pub const fn late(mut self, on: bool) -> Self {
        self.late = on;
        self
    }

    /// Nodes crash between any two steps and restart later. The storage frees their items at once or after a delay.
    pub const fn crashes(mut self, on: bool) -> Self {
        self.crashes = on;
        self
    }

    /// Nodes are shut down gracefully and restart later.
    pub const fn restarts(mut self, on: bool) -> Self {
        self.restarts = on;
        self
    }

    /// One node, or all nodes and clients, cannot reach the storage for seconds.
    pub const fn outages(mut self, on: bool) -> Self {
        self.outages = on;
        self
    }

    /// Live nodes are taken for dead, and other nodes claim their items while they still work.
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

    /// Instances are paused for seconds, at any moment.
    pub const fn pauses(mut self, on: bool) -> Self {
        self.pauses = on;
        self
    }
}

/// The plan of a seed: the probability of each fault for each call, the disruptions, and the longest delays.
pub(super) struct Plan {
    pub(super) delay: f64,
    pub(super) longest_delay: Duration,
    pub(super) longest_activity: Duration,
    pub(super) error: f64,
    pub(super) lost_answer: f64,
    pub(super) late: f64,
    pub(super) crash: f64,
    /// The kinds of disruptions that are injected, and their number.
    pub(super) disruption_kinds: Vec<Disruption>,
    pub(super) disruptions: u64,
    /// The longest pause between two disruptions.
    pub(super) pause: Duration,
    pub(super) skew: Duration,
    /// The number of idle live copies that a node keeps in memory.
    pub(super) max_idle_instances: Option<usize>,
}

/// A fault that is injected into a node from outside, independent of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disruption {
    Crash,
    Restart,
    Outage,
    LostLease,
    ClockSet,
    Pause,
}

impl Plan {
    pub(super) fn new(faults: Faults, dice: &mut Dice) -> Self {
        let mut chosen = |on: bool| on && dice.chance(0.6);
        let Faults { delays, errors, lost_answers, late, crashes, restarts, outages, lost_leases, skew, .. } = faults;
        let [delays, errors, lost_answers, late, crashes, restarts, outages, lost_leases, skew, evictions, pauses] = [
            delays,
            errors,
            lost_answers,
            late,
            crashes,
            restarts,
            outages,
            lost_leases,
            skew,
            faults.evictions,
            faults.pauses,
        ]
        .map(&mut chosen);
        let disruptions = [
            (crashes, Disruption::Crash),
            (restarts, Disruption::Restart),
            (outages, Disruption::Outage),
            (lost_leases, Disruption::LostLease),
            (skew, Disruption::ClockSet),
            (pauses, Disruption::Pause),
        ];
        let kinds: Vec<_> = disruptions.into_iter().filter_map(|(on, disruption)| on.then_some(disruption)).collect();
        let mut rate = |on: bool, rates: [f64; 3]| if on { rates[dice.index(rates.len())] } else { 0.0 };
        Self {
            delay: rate(delays, [0.1, 0.5, 1.0]),
            error: rate(errors, [0.02, 0.1, 0.3]),
            lost_answer: rate(lost_answers, [0.02, 0.1, 0.3]),
            late: rate(late, [0.02, 0.1, 0.3]),
            crash: rate(crashes, [0.002, 0.01, 0.03]),
            longest_delay: Duration::from_millis([5, 50, 500, 5_000][dice.index(4)]),
            longest_activity: Duration::from_millis(if delays { [5, 500, 20_000][dice.index(3)] } else { 0 }),
            disruptions: if kinds.is_empty() { 0 } else { dice.below(20) },
            disruption_kinds: kinds,
            pause: Duration::from_millis([100, 2_000, 20_000][dice.index(3)]),
            skew: if skew { Duration::from_millis([500, 10_000, 120_000][dice.index(3)]) } else { Duration::ZERO },
            max_idle_instances: evictions.then(|| dice.index(3)),
        }
    }
}
