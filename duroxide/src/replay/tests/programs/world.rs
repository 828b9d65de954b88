//! What happens to a program: completions in any order, early events, duplicates, nonsense, cancels, restarts.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::json;

use super::input;
use super::program::{Name, Seen, Statement, Trace, function};
use crate::history::{Decision, Event, EventKind, Failure, Input};
use crate::id::CallId;
use crate::payload::Payload;
use crate::replay::op::Op;
use crate::replay::tests::support::{payload, replay, second, started};
use crate::replay::{Execution, Remains, Unread, open_children};

type OpenCalls = Vec<(CallId, Op)>;
type UnreadEvents = Vec<(String, Unread)>;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// One of the calls that are open gets its outcome.
    Answer {
        pick: usize,
        well: bool,
    },
    Raise(Name),
    /// Any answer to any call, most of which mean nothing.
    Guess {
        call: u64,
        kind: usize,
    },
    /// An input that was delivered before comes again.
    Again(usize),
    Cancel,
    Terminate,
    /// The live copy is thrown away and made again from history.
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

/// One execution, as it was when it ended or the world stopped.
pub(super) struct Finished {
    pub(super) history: Vec<Event>,
    pub(super) seen: Vec<Seen>,
    pub(super) open: OpenCalls,
    pub(super) unread: UnreadEvents,
    /// Events of the execution before that came to none of its steps.
    pub(super) undelivered: UnreadEvents,
    /// The number of the last event that was raised, from 1, counted through all executions.
    pub(super) raised: u64,
}

/// Lives through all acts, and then brings the program to its end. One entry per execution.
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
        // What was delivered is older than what was not.
        carried = [execution.unread.clone(), execution.undelivered.clone()].concat();
        let end = execution.history.last().map(|event| &event.kind);
        let goes_on = matches!(end, Some(EventKind::Decision(Decision::ContinuedAsNew { .. })));
        finished.push(execution);
        if !goes_on {
            break;
        }
    }
    finished
}

struct World<'a> {
    program: &'a [Statement],
    copy: Execution,
    trace: Trace,
    history: Vec<Event>,
    /// Events of the execution before that have not been delivered.
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

    /// Answers all calls and raises events until the program ends; a program waits for no more than it has statements.
    fn finish(&mut self) {
        for turn in 0..200 {
            if self.ended {
                return;
            }
            match self.open_calls().pop_first() {
                Some((call, scheduled)) => self.deliver(answer(call, &scheduled, true), payload(&call)),
                None => self.act(&Act::Raise(if turn % 2 == 0 { Name::A } else { Name::B })),
            }
        }
        panic!("it does not end: {:?}", self.history);
    }

    /// Delivers an input; it counts exactly if the history so far says that it does.
    fn deliver(&mut self, input: Input, payload: Payload) {
        let counts = self.counts(&input);
        let shown = format!("{input:?}");
        // Clocks may step back.
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

    /// Calls that were scheduled, have no outcome and were not dropped, as history tells.
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
        let told: Vec<_> = open_children(&self.history);
        let open = self.copy.close().open;
        let children = open.into_iter().filter(|(_, op)| matches!(op, Op::Child { .. }));
        assert_eq!(told, children.collect::<Vec<_>>(), "history tells which children are open");
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
        (Decision::ActivityScheduled(_), false) => Input::ActivityFailed { call, failure },
        (Decision::ChildScheduled(child), true) if child.detached => Input::StartAccepted { call },
        (Decision::ChildScheduled(_), true) => Input::ChildCompleted { call },
        (Decision::ChildScheduled(child), false) if child.detached || call.0.is_multiple_of(2) => {
            Input::StartRejected { call, reason: json!("taken").to_string() }
        }
        (Decision::ChildScheduled(_), false) => Input::ChildFailed { call, failure },
        _ => Input::TimerFired { call },
    }
}

fn guess(call: CallId, kind: usize) -> Input {
    let failure = Failure::Panicked { message: "guessed".to_owned() };
    match kind {
        0 => Input::ActivityCompleted { call },
        1 => Input::ActivityFailed { call, failure },
        2 => Input::ChildCompleted { call },
        3 => Input::ChildFailed { call, failure },
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
