//! The state that all parts of one simulation share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::WallClock;
use super::dice::{Dice, Stream};
use super::faults::{Faults, Plan};
use super::record::Record;
use super::storage::{Isolation, Storage};
use crate::clock::{Clock, Timestamp};

/// The caller of the storage: a client in its own process, or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    Client,
    Node(usize),
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Node(n) => write!(f, "node {n}"),
        }
    }
}

pub(super) struct World {
    pub(super) storage: Storage,
    /// The true time.
    pub(super) clock: WallClock,
    pub(super) plan: Plan,
    /// Std mutexes, here and below: held for a few instructions, never across an await.
    calls: Mutex<Dice>,
    activities: Mutex<Dice>,
    record: Mutex<Record>,
    trace: Trace,
    /// The node that cannot reach the storage (`None`: all nodes and clients), and the end of the outage.
    outage: Mutex<(Option<usize>, Instant)>,
    /// The start of the current second, and the number of calls in it.
    second: Mutex<(Instant, u64)>,
    /// The number of observed steps that only a node which makes progress causes: changes of the storage, begun
    /// attempts; and of disruptions.
    events: AtomicU64,
    /// Notified of each event. Unlike a watch, it wakes its waiters in a fixed order.
    happened: Notify,
    /// The time of the last poll of a node, the progress then, and the number of polls since time or progress changed.
    polls: Mutex<(Instant, u64, u64)>,
    faults_ended: AtomicBool,
    failed: Notify,
    count: AtomicU64,
    faults: AtomicU64,
    crashes: AtomicU64,
}

/// A fault of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call fails and is not carried out.
    Error,
    /// The call is carried out, and its answer is lost.
    LostAnswer,
    /// The call fails and is carried out later.
    Late,
    /// Some entries of a commit fail.
    InPart,
    /// The node crashes before the call is carried out.
    CrashBefore,
    /// The node crashes after the call was carried out.
    CrashAfter,
}

/// The delays and the fault of one call.
#[derive(Default)]
pub(super) struct CallPlan {
    /// True if the call may be carried out although its caller has crashed.
    pub(super) writes: bool,
    pub(super) before: Duration,
    pub(super) fault: Option<Fault>,
    pub(super) after: Duration,
}

impl World {
    /// The limit of crashes at calls, because a run in which nodes crash at nearly every call would not end.
    const MAX_CRASHES: u64 = 30;
    /// The limit of calls within a second. A correct run stays below it, so a node or a client that exceeds it spins.
    const MAX_CALLS: u64 = 20_000;
    /// The limit of polls of nodes without progress of the run or of time. A correct run stays below it, so a node that
    /// exceeds it spins.
    const MAX_POLLS: u64 = 10_000;

    pub(super) fn new(seed: u64, faults: Faults, isolation: Isolation, traced: bool) -> Arc<Self> {
        let begun = Instant::now();
        let plan = Plan::new(faults, &mut Dice::new(seed, Stream::Plan));
        let clock = WallClock::new(begun);
        let trace = Trace { clock: clock.clone(), lines: traced.then(Arc::default) };
        Arc::new(Self {
            storage: Storage::new(seed, isolation, trace.clone()),
            clock,
            plan,
            calls: Mutex::new(Dice::new(seed, Stream::Calls)),
            activities: Mutex::new(Dice::new(seed, Stream::Activities)),
            record: Mutex::default(),
            trace,
            outage: Mutex::new((None, begun)),
            second: Mutex::new((begun, 0)),
            events: AtomicU64::new(0),
            happened: Notify::new(),
            polls: Mutex::new((begun, 0, 0)),
            faults_ended: AtomicBool::new(false),
            failed: Notify::new(),
            count: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            crashes: AtomicU64::new(0),
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Ends all faults.
    pub(super) fn end_faults(&self) {
        self.faults_ended.store(true, Ordering::Relaxed);
        self.happened();
        self.storage.end_faults();
    }

    pub(super) fn have_faults_ended(&self) -> bool {
        self.faults_ended.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn calls(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    pub(super) fn crashes(&self) -> u64 {
        self.crashes.load(Ordering::Relaxed)
    }

    pub(super) fn crashed(&self) {
        self.crashes.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a finding, and ends the run.
    pub(super) fn violated(&self, finding: impl Into<String>) {
        self.record().violations.push(finding.into());
        self.failed.notify_one();
    }

    /// Waits until there is a finding.
    pub(super) async fn failed(&self) {
        loop {
            if !self.record().violations.is_empty() {
                return;
            }
            self.failed.notified().await;
        }
    }

    /// Updates the record of the run, which may add findings.
    pub(super) fn observe(&self, update: impl FnOnce(&mut Record)) {
        self.happened();
        let mut record = self.record();
        record.latest = self.now() + self.plan.skew;
        update(&mut record);
        if !record.violations.is_empty() {
            self.failed.notify_one();
        }
    }

    fn happened(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
        self.happened.notify_waiters();
    }

    /// Returns the number of events so far.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Waits until there are more events than `seen`.
    pub(super) async fn next_event(&self, seen: u64) {
        while self.events() == seen {
            self.happened.notified().await;
        }
    }

    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        self.trace.add(line);
    }

    pub(super) fn take_trace(&self) -> Vec<String> {
        let trace = self.trace.lines.as_ref().map(|trace| trace.lock().unwrap_or_else(PoisonError::into_inner));
        trace.map(|mut trace| std::mem::take(&mut *trace)).unwrap_or_default()
    }

    /// Cuts one node, or all nodes and clients, off from the storage for a time.
    pub(super) fn cut_off(&self, node: Option<usize>, length: Duration) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = (node, Instant::now() + length);
        self.happened();
    }

    fn is_cut_off(&self, process: Process) -> bool {
        let (node, until) = *self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::now() < until && node.is_none_or(|node| process == Process::Node(node))
    }

    /// Plans a call. `writes`: it changes something and has an id or a number, so that it may be carried out late.
    /// `in_part`: some of its entries may fail.
    pub(super) fn plan_call(&self, process: Process, writes: bool, in_part: bool) -> CallPlan {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.check_call_rate();
        if self.have_faults_ended() {
            return CallPlan::default();
        }
        let plan = &self.plan;
        let mut dice = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut delay = || {
            let delayed = dice.chance(plan.delay);
            if delayed { dice.up_to(plan.longest_delay) } else { Duration::ZERO }
        };
        let (before, after) = (delay(), delay());
        let may_crash = matches!(process, Process::Node(_)) && self.crashes() < Self::MAX_CRASHES;
        let fault = if self.is_cut_off(process) {
            Some(Fault::Error)
        } else if may_crash && dice.chance(plan.crash) {
            Some([Fault::CrashBefore, Fault::CrashAfter][dice.index(2)])
        } else if dice.chance(plan.error) {
            Some(if in_part && dice.chance(0.5) { Fault::InPart } else { Fault::Error })
        } else if dice.chance(plan.lost_answer) {
            Some(Fault::LostAnswer)
        } else if writes && dice.chance(plan.late) {
            Some(Fault::Late)
        } else {
            None
        };
        self.faults.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        CallPlan { writes, before, fault, after }
    }

    /// Counts a poll of a node, and reports nodes that spin.
    pub(super) fn polled(&self, node: usize) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        let (time, progress) = (Instant::now(), self.events());
        if (polls.0, polls.1) != (time, progress) {
            *polls = (time, progress, 0);
        }
        polls.2 += 1;
        if polls.2 == Self::MAX_POLLS {
            drop(polls);
            self.violated(format!("nodes were polled 10,000 times without progress, node {node} last: a node spins"));
        }
    }

    /// Counts a call, and reports a rate of calls that no correct run has.
    fn check_call_rate(&self) {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 += 1;
        if second.1 == Self::MAX_CALLS {
            drop(second);
            self.violated("the storage was called 20,000 times within a second: a node or a client spins");
        }
    }

    /// Returns the delay of a signal, or of a call that is carried out late.
    pub(super) fn delay(&self) -> Duration {
        let mut dice = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let delayed = !self.have_faults_ended() && dice.chance(self.plan.delay);
        if delayed { dice.up_to(self.plan.longest_delay) } else { Duration::ZERO }
    }

    /// Returns the time that an activity takes.
    pub(super) fn activity_time(&self) -> Duration {
        let mut dice = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        if self.have_faults_ended() || dice.chance(0.3) {
            Duration::ZERO
        } else {
            dice.up_to(self.plan.longest_activity)
        }
    }

    /// Returns true with the given probability.
    pub(super) fn chance(&self, probability: f64) -> bool {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).chance(probability)
    }
}

/// The trace of a run, with a line for each event. Empty if tracing is off. Clones share it.
#[derive(Clone)]
pub(super) struct Trace {
    clock: WallClock,
    /// A std mutex: held for a few instructions, never across an await.
    lines: Option<Arc<Mutex<Vec<String>>>>,
}

impl Trace {
    pub(super) fn add(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let line = format!("{} {}", self.clock.now(), line());
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }
}

/// Waits for a time. A wait of zero does not yield to other tasks.
pub(super) async fn pause(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}
