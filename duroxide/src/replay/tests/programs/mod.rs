//! Random programs under random schedules: the history alone determines the execution, and no call or event is lost or
//! counted twice.

mod program;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::support::replay;
use super::waits;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::payload::Payload;
use crate::replay::poll_scope::PollScope;
use crate::replay::{Execution, Leftovers};
use program::{Seen, Statement, Trace, function};
use world::{Act, Finished, live};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_of_any_prefix_continues_like_the_live_run(program in program::any(), acts in world::any()) {
        let executions = live(&program, &acts);
        for execution in &executions {
            every_prefix_leads_to_the_same(&program, execution);
            every_call_is_scheduled_and_ends_at_most_once(&execution.history);
            events_are_consumed_once_in_order_or_unread(execution);
        }
        events_survive_continue_as_new(&executions);
    }
}

/// Replays every prefix that ends with a step, and continues live with the remaining inputs.
fn every_prefix_leads_to_the_same(program: &[Statement], execution: &Finished) {
    let history = &execution.history;
    let inputs = (1..=history.len()).filter(|&at| history.get(at).is_none_or(|event| input(event).is_some()));
    for length in inputs {
        let trace = Trace::default();
        let mut copy = match replay(&function(program, &trace), &history[..length]) {
            Ok(copy) => copy,
            Err(fault) => panic!("after {length} events: {}", fault.0),
        };
        polling_unasked_changes_nothing(&mut copy, &trace);
        waits::check(&copy);
        let mut again = history[..length].to_vec();
        for event in &history[length..] {
            if let Some(input) = input(event) {
                let step = copy.step(input.clone(), event.payload.clone(), event.time);
                again.extend(step.unwrap_or_else(|fault| panic!("after {length} events: {}", fault.0)).events);
            }
        }
        assert_eq!(&again, history, "continued after {length} events");
        assert_eq!(trace.seen(), execution.seen, "continued after {length} events");
        let Leftovers { open, unread, .. } = copy.close();
        let unread = world::by_name(unread);
        assert_eq!((&open, &unread), (&execution.open, &execution.unread), "continued after {length} events");
    }
}

/// Polls once more after a step: every future that could continue must have been woken and polled within the step.
fn polling_unasked_changes_nothing(copy: &mut Execution, trace: &Trace) {
    if copy.future.is_none() {
        return;
    }
    let seen = trace.seen();
    let _scope = PollScope::enter(copy.core());
    copy.waker.request_poll();
    assert!(copy.poll_to_quiescence().is_none(), "it could have returned");
    let state = copy.core().lock();
    assert!(state.decisions.is_empty() && state.ending.is_none(), "it could have continued: {:?}", state.decisions);
    assert_eq!(trace.seen(), seen, "it could have continued");
}

fn every_call_is_scheduled_and_ends_at_most_once(history: &[HistoryEvent]) {
    let (mut scheduled, mut never_dropped, mut ended) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    assert!(history.is_sorted_by_key(|event| (event.id, event.time)), "time never runs backwards");
    for event in history {
        match &event.kind {
            EventKind::Decision(Decision::CallDropped { call }) => {
                assert!(scheduled.contains(call), "call {call} is dropped and was never scheduled");
                assert!(!never_dropped.contains(call), "call {call} is detached, and dropped");
                assert!(ended.insert(*call), "call {call} is dropped after its end");
            }
            EventKind::Decision(decision) => {
                let Some(call) = decision.call() else { continue };
                let detached = match decision {
                    Decision::ActivityScheduled(activity) => activity.detached,
                    Decision::ChildScheduled(child) => child.detached,
                    _ => false,
                };
                detached.then(|| never_dropped.insert(call));
                assert!(scheduled.insert(call), "call {call} is scheduled twice");
            }
            EventKind::Input(input) => {
                let Some(call) = input.call() else { continue };
                assert!(scheduled.contains(&call), "call {call} has an outcome and was never scheduled");
                assert!(ended.insert(call), "call {call} has an outcome after its end");
            }
        }
    }
    let ends = history.iter().filter(|event| matches!(&event.kind, EventKind::Decision(d) if d.is_terminal())).count();
    assert!(ends <= 1, "it ends {ends} times");
}

fn events_are_consumed_once_in_order_or_unread(execution: &Finished) {
    let unread = execution.unread.iter().map(|(name, event)| (name, number(&event.payload)));
    assert!(unread.is_sorted(), "unread events keep their order");
    let mut delivered: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in &execution.history {
        if let Some(Input::EventRaised { name, .. }) = input(event) {
            delivered.entry(name).or_default().push(number(&event.payload));
        }
    }
    for (name, delivered) in delivered {
        let by = |wanted: bool| {
            let consumed = execution.seen.iter().filter_map(move |seen| match seen {
                Seen::Consumed { name: of, number, waited } if *of == name && *waited == wanted => Some(*number),
                _ => None,
            });
            consumed.collect::<Vec<_>>()
        };
        let (waited, tried) = (by(true), by(false));
        let unread = execution.unread.iter().filter(|(of, _)| of == name).map(|(_, event)| number(&event.payload));
        let unread: Vec<_> = unread.collect();
        assert!(waited.is_sorted(), "{name}: waits took {waited:?}");
        if tried.is_empty() {
            // A try may take a newer event than one that belongs to a wait, and that wait may then be dropped.
            assert_eq!([waited.clone(), unread.clone()].concat(), delivered, "{name}: the oldest first");
        }
        let mut accounted = [waited, tried, unread].concat();
        accounted.sort_unstable();
        assert_eq!(accounted, delivered, "{name}: each is consumed once or unread");
    }
}

fn events_survive_continue_as_new(executions: &[Finished]) {
    let Some(last) = executions.last() else { return };
    let consumed = executions.iter().flat_map(|execution| &execution.seen).filter_map(|seen| match seen {
        Seen::Consumed { number, .. } => Some(*number),
        Seen::Other(_) => None,
    });
    let left = last.unread.iter().chain(&last.undelivered).map(|(_, event)| number(&event.payload));
    let mut accounted: Vec<_> = consumed.chain(left).collect();
    accounted.sort_unstable();
    assert_eq!(accounted, (1..=last.raised).collect::<Vec<_>>(), "each is consumed once or left");
}

fn number(payload: &Payload) -> u64 {
    payload.decode().expect("is a number")
}

fn input(event: &HistoryEvent) -> Option<&Input> {
    match &event.kind {
        EventKind::Input(input) => Some(input),
        EventKind::Decision(_) => None,
    }
}

/// Checks that the generated programs and schedules cover every kind of event.
#[test]
fn random_programs_reach_every_kind_of_event() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..128 {
        let (program, acts) = (program::any(), world::any()).new_tree(&mut runner).expect("is made").current();
        for event in live(&program, &acts).iter().flat_map(|execution| &execution.history) {
            let shown = match &event.kind {
                EventKind::Input(input) => format!("{input:?}"),
                EventKind::Decision(decision) => format!("{decision:?}"),
            };
            let kind = shown.split(['(', ' ']).next().unwrap_or_default();
            reached.insert(kind.to_owned());
        }
    }
    let all = "ActivityCompleted ActivityFailed ActivityScheduled CallDropped CallRejected CancelRequested Cancelled \
               ChildCompleted ChildFailed ChildScheduled Completed ContinuedAsNew EventAwaited EventRaised StartAccepted \
               StartRejected Started Terminated TerminateRequested TimerCreated TimerFired";
    let all: BTreeSet<_> = all.split_whitespace().map(str::to_owned).collect();
    assert_eq!(reached, all);
}

#[test]
fn program_ends_even_without_acts() {
    let program = [Statement::Do(program::Op::Activity), Statement::ContinueAsNew];
    let executions = live(&program, &[Act::Evict]);
    let ends = |execution: &Finished| execution.history.last().map(|event| event.kind.clone());
    let last = executions.last().and_then(ends);
    assert_eq!((executions.len(), last), (3, Some(EventKind::Decision(Decision::Completed))));
}
