//! The inputs of a program: completions in any order, early events, duplicates, nonsense, cancels, restarts.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::json;

use super::input;
use super::program::{Name, Seen, Statement, Trace, function};
use crate::history::{Decision, EventKind, Failure, HistoryEvent, Input};
use crate::id::CallId;
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::replay::op::Op;
use crate::replay::tests::support::{execution_id, payload, replay, second, started};
use crate::replay::{Execution, Held, Leftovers, Step, Unread, UnreadEvent, open_children};

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
    /// Unread events of its history, by name.
    pub(super) unread: UnreadEvents,
    /// Unread events that are not in its history.
    pub(super) undelivered: UnreadEvents,
    carried: Carried,
    /// The number of the last event that was raised, from 1, counted through all executions.
    pub(super) raised: u64,
}

/// The events that an execution receives from the one before.
#[derive(Default)]
struct Carried {
    held: Held,
    sent: VecDeque<Message>,
}

/// Returns events by name, in their order.
pub(super) fn by_name(unread: Vec<UnreadEvent>) -> UnreadEvents {
    let mut unread: UnreadEvents = unread.into_iter().map(|unread| (unread.name, unread.event)).collect();
    unread.sort_by(|(one, _), (other, _)| one.cmp(other));
    unread
}

fn raised(name: &str, event: Unread, lane: Lane) -> Message {
    let Unread { payload, headers, by } = event;
    Message::new(Input::EventRaised { name: name.to_owned(), headers, by }, payload).in_lane(lane)
}

fn in_order(held: Held) -> Vec<Message> {
    let mut events: Vec<_> = held.into_events().collect();
    events.sort_unstable_by_key(|(arrival, _)| *arrival);
    events.into_iter().map(|(_, message)| message).collect()
}

/// Carries out all acts, and then brings the program to its end. Returns one entry for each execution.
pub(super) fn live(program: &[Statement], acts: &[Act]) -> Vec<Finished> {
    let mut acts = acts.iter();
    let mut finished = Vec::new();
    let (mut carried, mut raised) = (Carried::default(), 0);
    for round in 1.. {
        let mut world = World::begin(program, round, carried, raised);
        while !world.ended
            && let Some(act) = acts.next()
        {
            world.act(act);
        }
        world.finish();
        let mut execution = world.close();
        raised = execution.raised;
        carried = std::mem::take(&mut execution.carried);
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
    /// Events of the previous execution that were not offered yet.
    carried: VecDeque<Message>,
    /// The number of the last event that was raised, counted through all executions.
    raised: u64,
    ended: bool,
}

impl<'a> World<'a> {
    fn begin(program: &'a [Statement], round: u64, carried: Carried, raised: u64) -> Self {
        let trace = Trace::default();
        let Ok(copy) = replay(&function(program, &trace), &[]) else { unreachable!("there is nothing to replay") };
        let Carried { held, sent } = carried;
        let mut world = Self { program, copy, trace, history: Vec::new(), carried: sent, raised, ended: false };
        world.deliver(started(), payload(&round));
        world.copy.take_over(held);
        world.deliver_awaited();
        while !world.ended
            && let Some(message) = world.carried.pop_front()
        {
            world.offer(message);
        }
        world
    }

    /// Delivers an event, unless it is held.
    fn offer(&mut self, message: Message) {
        if let Some(message) = self.copy.hold(message) {
            self.deliver(message.input, message.payload);
        }
    }

    fn deliver_awaited(&mut self) {
        while !self.ended
            && let Some(message) = self.copy.take_awaited()
        {
            self.deliver_one(message.input, message.payload);
        }
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
                let event = Unread { payload: payload(&self.raised), headers: Default::default(), by: None };
                self.offer(raised(name.text(), event, Lane::Normal));
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
                self.deliver(Input::CancelRequested { reason: "why".to_owned(), parent: None, by: None }, Payload::NULL)
            }
            Act::Terminate => self
                .deliver(Input::TerminateRequested { reason: "why".to_owned(), parent: None, by: None }, Payload::NULL),
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
        self.deliver_one(input, payload);
        self.deliver_awaited();
    }

    fn deliver_one(&mut self, input: Input, payload: Payload) {
        let counts = self.counts(&input);
        let shown = format!("{input:?}");
        // The clock steps back sometimes.
        let time = second([3, 1, 2][self.history.len() % 3] + self.history.len() as i64);
        let step: Step = self.copy.step(input, payload, time).unwrap_or_else(|fault| panic!("{shown}: {}", fault.0));
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
        let Leftovers { open, held, .. } = self.copy.close();
        let children = open.into_iter().filter(|(_, op)| matches!(op, Op::Child { .. }));
        assert_eq!(recorded, children.collect::<Vec<_>>(), "the open children by history");
        self.trace = Trace::default();
        self.copy =
            replay(&function(self.program, &self.trace), &self.history).unwrap_or_else(|fault| panic!("{}", fault.0));
        // The messages of held events are stored.
        if !self.ended {
            in_order(held).into_iter().for_each(|message| self.offer(message));
        }
    }

    fn close(mut self) -> Finished {
        let Leftovers { open, unread, held, .. } = self.copy.close();
        let Self { history, trace, carried: rest, raised: count, .. } = self;
        let undelivered = in_order(held.clone()).into_iter().chain(rest.iter().cloned()).map(event).collect();
        let carried = if unread.is_empty() {
            Carried { held, sent: rest }
        } else {
            let read =
                unread.iter().map(|unread| (unread.arrival, raised(&unread.name, unread.event.clone(), Lane::Carried)));
            let mut events: Vec<_> = read.chain(held.into_events()).collect();
            events.sort_by_key(|(arrival, _)| *arrival);
            let sent = events.into_iter().map(|(_, message)| message.in_lane(Lane::Carried)).chain(rest).collect();
            Carried { held: Held::default(), sent }
        };
        let (seen, unread) = (trace.seen(), by_name(unread));
        Finished { history, seen, open, unread, undelivered, carried, raised: count }
    }
}

fn event(message: Message) -> (String, Unread) {
    let Input::EventRaised { name, headers, by } = message.input else { unreachable!("only events are held") };
    (name, Unread { payload: message.payload, headers, by })
}

fn answer(call: CallId, scheduled: &Decision, well: bool) -> Input {
    let failure = Failure::Application;
    match (scheduled, well) {
        (Decision::ActivityScheduled(_), true) => Input::ActivityCompleted { call, run: None },
        (Decision::ActivityScheduled(_), false) => Input::ActivityFailed { call, failure, callee: None, run: None },
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
        0 => Input::ActivityCompleted { call, run: None },
        1 => Input::ActivityFailed { call, failure, callee: None, run: None },
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
