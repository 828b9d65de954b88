//! The inputs of a program: completions in any order, early events, duplicates, nonsense, cancels, restarts.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::json;

use super::input;
use super::program::{Name, Seen, Statement, Trace, function};
use crate::history::{Decision, EventKind, Failure, HistoryEvent, Input};
use crate::id::CallId;
use crate::payload::Payload;
use crate::replay::op::Op;
use crate::replay::tests::support::{execution_id, payload, replay, second, started};
use crate::replay::{Execution, Remains, Unread, open_children};

type OpenCalls = Vec<(CallId, Op)>;
type UnreadEvents = Vec<(String, Unread)>;

/// One act upon a program.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Delivers the outcome of one of the open calls.
    Answer {
        pick: usize,
        well: bool,
    },
    Raise(Name),
    /// Delivers any answer to any call; most of these are stale.
    Guess {
        call: u64,
        kind: usize,
    },
    /// Delivers an input a second time.
    Again(usize),
    Cancel,
    Terminate,
    /// Drops the live copy and replays another from history.
    Evict,
}

pub(super) fn any() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        12 => (any_index(), prop::bool::weighted(0.8)).prop_map(|(pick, well)| Act::Answer { pick, well }),
        8 => prop_oneof![3 => Just(Name::A), 1 => Just(Name::B)].prop_map(Act::Raise),
        2 => (0..12u64, 0..7usize).prop_map(|(call, kind)| Act::Guess { call, kind }),
        2 => any_index().prop_map(Act::Again),
        1 => prop_oneof![4 => Just(Act::Cancel), 1 => Just(Act::Terminate)],
        2 => Just(Act::Evict),
    ];
    prop::collection::vec(act, 0..24)
}

fn any_index() -> impl Strategy<Value = usize> {
    0..1_000usize
}

/// One execution, in its state at its end, or at the end of the acts.
pub(super) struct Finished {
    pub(super) history: Vec<HistoryEvent>,
    pub(super) seen: Vec<Seen>,
    pub(super) open: OpenCalls,
    pub(super) unread: UnreadEvents,
    /// Events of the previous execution that were not delivered to this one.
    pub(super) undelivered: UnreadEvents,
    /// The number of the last event that was raised, from 1, counted through all executions.
    pub(super) raised: u64,
}

/// Carries out all acts, and then brings the program to its end. Returns one entry for each execution.
pub(super) fn live(program: &[Statement], acts: &[Act]) -> Vec<Finished> {
    let mut acts = acts.iter();
    let mut finished = Vec::new();
    let (mut carried, mut raised) = (Vec::new(), 0);
    for round in 1.. {
        let mut world = World::begin(program, round, carried, raised);
        while !world.ended
            && let Some(act) = acts.next()
        {
            world.act(act);
        }
        world.finish();
        let execution = world.close();
        raised = execution.raised;
        // Unread events were raised before those that were not delivered.
        carried = [execution.unread.clone(), execution.undelivered.clone()].concat();
        let end = execution.history.last().map(|event| &event.kind);
        let continues = matches!(end, Some(EventKind::Decision(Decision::ContinuedAsNew { .. })));
        finished.push(execution);
        if !continues {
            break;
        }
    }
    finished
}

struct World<'a> {
    program: &'a [Statement],
    copy: Execution,
    trace: Trace,
    history: Vec<HistoryEvent>,
    /// Events of the previous execution that are not delivered yet.
    carried: VecDeque<(String, Unread)>,
    /// The number of the last event that was raised, counted through all executions.
    raised: u64,
    ended: bool,
}

impl<'a> World<'a> {
    fn begin(program: &'a [Statement], round: u64, carried: UnreadEvents, raised: u64) -> Self {
        let trace = Trace::default();
        let Ok(copy) = replay(&function(program, &trace), &[]) else { unreachable!("there is nothing to replay") };
        let carried = carried.into();
        let mut world = Self { program, copy, trace, history: Vec::new(), carried, raised, ended: false };
        world.deliver(started(), payload(&round));
        while !world.ended
            && let Some((name, Unread { payload, headers })) = world.carried.pop_front()
        {
            world.deliver(Input::EventRaised { name, headers }, payload);
        }
        world
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Answer { pick, well } => {
                let open = self.open_calls();
                if let Some((call, scheduled)) = open.iter().nth(pick % open.len().max(1)) {
                    self.deliver(answer(*call, scheduled, *well), payload(&call));
                }
            }
            Act::Raise(name) => {
                self.raised += 1;
                self.deliver(Input::raised(name.text()), payload(&self.raised));
            }
            Act::Guess { call, kind } => {
                self.deliver(guess(CallId(*call), *kind), Payload::NULL);
            }
            Act::Again(pick) => {
                let inputs = self.history.iter().filter_map(input).filter(|input| input.call().is_some());
                let again = inputs.clone().nth(pick % inputs.count().max(1)).cloned();
                if let Some(again) = again {
                    self.deliver(again, payload(&"again"));
                }
            }
            Act::Cancel => {
                self.deliver(Input::CancelRequested { reason: "why".to_owned(), parent: None }, Payload::NULL)
            }
            Act::Terminate => {
                self.deliver(Input::TerminateRequested { reason: "why".to_owned(), parent: None }, Payload::NULL)
            }
            Act::Evict => self.evict(),
        }
    }

    /// Answers all calls and raises events until the program ends. The rounds suffice for the longest program.
    fn finish(&mut self) {
        for round in 0..200 {
            if self.ended {
                return;
            }
            match self.open_calls().pop_first() {
                Some((call, scheduled)) => self.deliver(answer(call, &scheduled, true), payload(&call)),
                None => self.act(&Act::Raise(if round % 2 == 0 { Name::A } else { Name::B })),
            }
        }
        panic!("it does not end: {:?}", self.history);
    }

    /// Delivers an input; it must be stale exactly if the history so far says so.
    fn deliver(&mut self, input: Input, payload: Payload) {
        let counts = self.counts(&input);
        let shown = format!("{input:?}");
        // The clock steps back sometimes.
        let time = second([3, 1, 2][self.history.len() % 3] + self.history.len() as i64);
        let step = self.copy.step(input, payload, time).unwrap_or_else(|fault| panic!("{shown}: {}", fault.0));
        assert_eq!(!step.events.is_empty(), counts, "{shown} after {:?}", self.history);
        self.ended |= step.ended;
        self.history.extend(step.events);
    }

    fn counts(&self, input: &Input) -> bool {
        match (input, input.call()) {
            (_, Some(call)) => self.open_calls().get(&call).is_some_and(|scheduled| fits(scheduled, input)),
            (Input::CancelRequested { .. }, _) => {
                !self.history.iter().any(|event| matches!(event.kind, EventKind::Input(Input::CancelRequested { .. })))
            }
            _ => true,
        }
    }

    /// Returns the calls that, by the history, were scheduled, have no outcome and were not dropped.
    fn open_calls(&self) -> BTreeMap<CallId, Decision> {
        let mut open = BTreeMap::new();
        for event in &self.history {
            match &event.kind {
                EventKind::Decision(Decision::EventAwaited { .. } | Decision::CallRejected { .. }) => {}
                EventKind::Decision(Decision::CallDropped { call }) => drop(open.remove(call)),
                EventKind::Decision(decision) => open.extend(decision.call().map(|call| (call, decision.clone()))),
                EventKind::Input(input) => drop(input.call().and_then(|call| open.remove(&call))),
            }
        }
        open
    }

    fn evict(&mut self) {
        let recorded: Vec<_> = open_children(&execution_id(), &self.history);
        let open = self.copy.close().open;
        let children = open.into_iter().filter(|(_, op)| matches!(op, Op::Child { .. }));
        assert_eq!(recorded, children.collect::<Vec<_>>(), "the open children by history");
        self.trace = Trace::default();
        self.copy =
            replay(&function(self.program, &self.trace), &self.history).unwrap_or_else(|fault| panic!("{}", fault.0));
    }

    fn close(mut self) -> Finished {
        let Remains { open, unread, .. } = self.copy.close();
        let Self { history, trace, carried, raised, .. } = self;
        Finished { history, seen: trace.seen(), open, unread, undelivered: carried.into(), raised }
    }
}

fn answer(call: CallId, scheduled: &Decision, well: bool) -> Input {
    let failure = Failure::Application;
    match (scheduled, well) {
        (Decision::ActivityScheduled(_), true) => Input::ActivityCompleted { call },
        (Decision::ActivityScheduled(_), false) => Input::ActivityFailed { call, failure, callee: None },
        (Decision::ChildScheduled(child), true) if child.detached => Input::StartAccepted { call },
        (Decision::ChildScheduled(_), true) => Input::ChildCompleted { call },
        (Decision::ChildScheduled(child), false) if child.detached || call.0.is_multiple_of(2) => {
            Input::StartRejected { call, reason: json!("taken").to_string() }
        }
        (Decision::ChildScheduled(_), false) => Input::ChildFailed { call, failure, callee: None },
        _ => Input::TimerFired { call },
    }
}

fn guess(call: CallId, kind: usize) -> Input {
    let failure = Failure::Panicked { message: "guessed".to_owned() };
    match kind {
        0 => Input::ActivityCompleted { call },
        1 => Input::ActivityFailed { call, failure, callee: None },
        2 => Input::ChildCompleted { call },
        3 => Input::ChildFailed { call, failure, callee: None },
        4 => Input::StartAccepted { call },
        5 => Input::StartRejected { call, reason: "guessed".to_owned() },
        _ => Input::TimerFired { call },
    }
}

fn fits(scheduled: &Decision, input: &Input) -> bool {
    match input {
        Input::ActivityCompleted { .. } | Input::ActivityFailed { .. } => {
            matches!(scheduled, Decision::ActivityScheduled(_))
        }
        Input::TimerFired { .. } => matches!(scheduled, Decision::TimerCreated { .. }),
        Input::ChildCompleted { .. } | Input::ChildFailed { .. } => {
            matches!(scheduled, Decision::ChildScheduled(child) if !child.detached)
        }
        Input::StartAccepted { .. } => matches!(scheduled, Decision::ChildScheduled(child) if child.detached),
        Input::StartRejected { .. } => matches!(scheduled, Decision::ChildScheduled(_)),
        _ => false,
    }
}
