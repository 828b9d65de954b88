//! The live instances without a node: changes in, follow-ups out.

use super::*;
use crate::history::Input;
use crate::id::{CallId, MessageId};
use crate::payload::Payload;
use crate::provider::Outgoing;
use crate::replay::Function;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0) + std::time::Duration::from_secs(seconds)
}

fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("valid")
}

fn new(name: &str) -> NewInstance {
    NewInstance::new(id(name), "flow", MessageRow::new("start"))
}

/// An instance that was created with this message number for its start.
fn created(number: u64) -> (LiveInstances, ExecutionId) {
    let (mut live, new) = (LiveInstances::default(), new("a"));
    let execution = new.first_execution();
    assert!(matches!(live.create(new, Some(number), at(0)), FollowUp::Nothing));
    (live, execution)
}

/// An instance whose first turn, or its commit, is in flight.
fn busy() -> (LiveInstances, ExecutionId) {
    let (mut live, execution) = created(1);
    live.pop_ready(at(0)).expect("its start");
    assert!(live.wake(&execution.instance).expect("live").begin_turn().is_none(), "the turn makes the copy");
    (live, execution)
}

fn copy(execution: &ExecutionId) -> Box<Execution> {
    Box::new(Execution::new(
        execution.clone(),
        Function::new("`a`", "a.rs:1", |_, _| Ok(Box::pin(std::future::pending()))),
        || (),
    ))
}

fn stored(live: &LiveInstances, execution: &ExecutionId) -> StoredTurn {
    let generation = live.get(&execution.instance).expect("live").generation;
    let copy = Some((copy(execution), Version::new(1, 0, 0)));
    StoredTurn { generation, copy, undelivered: Inbox::default(), held: Held::default() }
}

fn deliver(live: &mut LiveInstances, to: &ExecutionId, number: u64) -> FollowUp {
    let message = MessageRow::new(number.to_string());
    live.deliver_message(to.instance.clone(), to.identity, number, message, at(0))
}

fn outcome(execution: &ExecutionId) -> Box<LocalOutcome> {
    let (call, payload) = (CallId(1), Payload::NULL);
    let activity = ActivityId { execution: execution.clone(), call };
    Box::new(LocalOutcome {
        activity,
        attempt: 1,
        claim: 0,
        input: Input::ActivityCompleted { call, run: None },
        payload,
        permit: None,
        measure: None,
    })
}

fn acquired(execution: ExecutionId, last: u64) -> AcquiredInstance {
    AcquiredInstance {
        execution,
        name: "flow".to_owned(),
        version: None,
        last_event: EventId(last),
        arrivals: 0,
        messages: Vec::new(),
        history: Default::default(),
        claim: 1,
        crashes: 0,
        suspect: false,
    }
}

fn turn(execution: &ExecutionId, then: Then) -> Turn {
    Turn { then, ..Turn::new(execution.clone(), EventId(0), at(0)) }
}

fn all_data(mut inbox: Inbox) -> Vec<String> {
    let deliveries: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
    data(&deliveries).into_iter().map(ToOwned::to_owned).collect()
}

fn data(deliveries: &[Delivery]) -> Vec<&str> {
    let data = deliveries.iter().map(|delivery| match delivery {
        Delivery::Message(message) => &*message.data,
        Delivery::Outcome(_) => "outcome",
    });
    data.collect()
}

fn is_load(follow_up: &FollowUp, deliveries: &[&str]) -> bool {
    matches!(follow_up, FollowUp::Load(instance, dropped) if *instance == id("a") && data(dropped) == deliveries)
}

#[test]
fn messages_are_delivered_in_order_and_a_gap_is_requested() {
    let (mut live, execution) = created(1);
    assert!(matches!(deliver(&mut live, &execution, 3), FollowUp::FillGap(_)));
    assert!(live.has_gap(&execution.instance));
    assert!(matches!(deliver(&mut live, &execution, 2), FollowUp::Nothing));
    assert!(matches!(deliver(&mut live, &execution, 2), FollowUp::Nothing), "it was received before");
    assert_eq!((live.has_gap(&execution.instance), live.heard(&execution.instance)), (false, Some(3)));
    let (_, deliveries) = live.pop_ready(at(0)).expect("ready");
    assert_eq!(all_data(deliveries), ["start", "2", "3"]);
    assert!(live.pop_ready(at(0)).is_none());
}

#[test]
fn message_for_an_instance_that_is_not_live_loads_it() {
    let execution = new("a").first_execution();
    assert!(is_load(&deliver(&mut LiveInstances::default(), &execution, 1), &[]));
}

#[test]
fn message_for_another_identity_reloads_the_instance() {
    let (mut live, execution) = created(1);
    assert!(live.deliver_outcome(outcome(&execution), at(0)).is_none());
    let other = ExecutionId { identity: MessageId::new().into(), ..execution };
    assert!(is_load(&deliver(&mut live, &other, 1), &["outcome"]), "the outcome is to be stored");
    assert!(!live.contains(&id("a")));
}

#[test]
fn stale_copy_is_reloaded_after_its_turn() {
    // Another instance has the id, or this one has ended and was reset; and a turn that was stored, or had nothing to store.
    for (is_claimed_again, is_stored) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut live, execution) = busy();
        let other = ExecutionId { identity: MessageId::new().into(), ..execution.clone() };
        let answer = if is_claimed_again { acquired(execution.next(), 2) } else { acquired(other, 0) };
        let answer = AcquiredInstance { claim: u64::from(is_claimed_again), ..answer };
        assert!(matches!(live.acquired(answer, at(0)), FollowUp::Nothing));
        assert!(live.in_flight(&execution.instance).is_some(), "the turn ends first");
        let stored = stored(&live, &execution);
        let follow_up = if is_stored {
            live.turn_stored(&turn(&execution, Then::Continue), stored)
        } else {
            live.rest(&execution.instance, copy(&execution))
        };
        assert!(is_load(&follow_up, &[]), "{is_claimed_again} {is_stored}");
    }
}

#[test]
fn answer_about_the_own_turn_is_not_newer() {
    // In flight, and the last event of the answer; then true if the live copy is dropped.
    for (is_in_flight, last, is_dropped) in [(true, 5, false), (false, 5, true), (false, 0, false)] {
        let (mut live, execution) = if is_in_flight { busy() } else { created(1) };
        let follow_up = live.acquired(acquired(execution, last), at(0));
        assert_eq!(matches!(follow_up, FollowUp::Load(..)), is_dropped, "{is_in_flight} {last}");
    }
}

#[test]
fn claimed_instance_with_a_history_is_read() {
    for (last, is_read) in [(0, false), (3, true)] {
        let mut live = LiveInstances::default();
        let follow_up = live.acquired(acquired(new("a").first_execution(), last), at(0));
        assert_eq!(matches!(follow_up, FollowUp::ReadHistory(..)), is_read, "{last}");
    }
}

#[test]
fn outcome_without_its_live_copy_is_returned() {
    let (mut live, execution) = created(1);
    assert!(live.deliver_outcome(outcome(&execution.next()), at(0)).is_some(), "another execution");
    assert!(live.deliver_outcome(outcome(&execution), at(0)).is_none());
    live.discard_outcome(&outcome(&execution).activity);
    assert!(live.remove(&execution.instance).is_empty());
}

#[test]
fn timer_of_an_instance_without_a_live_copy_loads_it() {
    let (mut live, new) = (LiveInstances::default(), new("a"));
    let start = MessageRow { visible_at: Some(at(5)), ..new.start.clone() };
    assert!(matches!(live.create(NewInstance { start, ..new }, None, at(0)), FollowUp::Nothing));
    assert_eq!(live.next_timer(), Some(at(5)));
    assert!(live.fire_timer(at(4)).is_none());
    assert!(is_load(&live.fire_timer(at(5)).expect("due"), &[]));
    assert_eq!(live.next_timer(), None);
}

#[test]
fn timer_that_a_turn_has_created_fires() {
    let (mut live, execution) = busy();
    let number = Some(execution.number);
    let message = MessageRow { execution: number, visible_at: Some(at(5)), ..MessageRow::new("timer") };
    let (to, identity) = (execution.instance.clone(), Some(execution.identity));
    let messages = vec![Outgoing { to, identity, message }];
    let turn = Turn { messages, ..turn(&execution, Then::Continue) };
    let stored = stored(&live, &execution);
    let generation = stored.generation;
    assert!(matches!(live.turn_stored(&turn, stored), FollowUp::Nothing));
    live.keep_timers(&turn, generation, at(0));
    assert!(live.pop_ready(at(0)).is_none());
    assert!(matches!(live.fire_timer(at(5)), Some(FollowUp::Nothing)));
    assert_eq!(all_data(live.pop_ready(at(5)).expect("ready").1), ["timer"]);
}

#[test]
fn timer_of_a_turn_that_was_loaded_with_it_fires_once() {
    let (mut live, execution) = busy();
    let generation = stored(&live, &execution).generation;
    let timer = MessageRow { execution: Some(execution.number), visible_at: Some(at(0)), ..MessageRow::new("timer") };
    live.remove(&execution.instance);
    let loaded = AcquiredInstance { messages: vec![timer.clone()], ..acquired(execution.clone(), 2) };
    assert!(matches!(live.acquired(loaded, at(0)), FollowUp::ReadHistory(..)));
    let (to, identity) = (execution.instance.clone(), Some(execution.identity));
    let turn = turn(&execution, Then::Continue);
    let turn = Turn { after: EventId(2), messages: vec![Outgoing { to, identity, message: timer }], ..turn };
    live.keep_timers(&turn, generation, at(0));
    assert!(live.fire_timer(at(0)).is_none());
    let inbox = live.remove(&execution.instance);
    assert!(inbox.is_empty(), "a message is stored");
}

#[test]
fn next_execution_inherits_messages_and_not_outcomes() {
    let (mut live, execution) = busy();
    assert!(matches!(deliver(&mut live, &execution, 2), FollowUp::Nothing));
    assert!(live.deliver_outcome(outcome(&execution), at(0)).is_none());
    let (stored, then) = (stored(&live, &execution), Then::ContinueAsNew { version: None });
    let follow_up = live.turn_stored(&turn(&execution, then), stored);
    assert!(matches!(follow_up, FollowUp::StoreOutcomes(outcomes) if data(&outcomes) == ["outcome"]));
    let next = live.get(&execution.instance).expect("live");
    assert_eq!((next.execution.number, live.heard(&execution.instance)), (2, Some(2)));
    assert!(live.remove(&execution.instance).is_empty(), "the message is stored");
}

#[test]
fn ended_instance_is_dropped() {
    let (mut live, execution) = busy();
    let (stored, then) = (stored(&live, &execution), Then::Suspend { reason: String::new() });
    let follow_up = live.turn_stored(&turn(&execution, then), stored);
    assert!(matches!(follow_up, FollowUp::StoreOutcomes(outcomes) if outcomes.is_empty()));
    assert!(!live.contains(&execution.instance));
}

#[test]
fn commit_of_an_ended_instance_is_answered_first() {
    let (mut live, execution) = busy();
    let stored = stored(&live, &execution);
    live.current(&execution.instance, stored.generation).expect("live").begin_commit();
    assert!(matches!(live.ended(execution.instance.clone()), FollowUp::Nothing), "one commit is in flight at a time");
    let follow_up = live.turn_stored(&turn(&execution, Then::Continue), stored);
    assert!(matches!(follow_up, FollowUp::Load(instance, _) if instance == execution.instance));
    assert!(!live.contains(&execution.instance));
    // A turn that runs may never end.
    let (mut live, execution) = busy();
    assert!(matches!(live.ended(execution.instance.clone()), FollowUp::Load(..)));
    assert!(!live.contains(&execution.instance));
}

#[test]
fn longest_idle_instance_is_the_first_in_excess() {
    let mut live = LiveInstances::default();
    let executions = ["a", "b", "c"].map(|name| {
        let new = new(name);
        let execution = new.first_execution();
        assert!(matches!(live.create(new, Some(1), at(0)), FollowUp::Nothing));
        execution
    });
    while live.pop_ready(at(0)).is_some() {}
    for execution in &executions {
        live.wake(&execution.instance).expect("live").begin_turn();
        assert!(matches!(live.rest(&execution.instance, copy(execution)), FollowUp::Nothing));
    }
    // `a` is used again.
    let copy = live.wake(&executions[0].instance).expect("live").begin_turn().expect("its copy");
    assert!(matches!(live.rest(&executions[0].instance, copy), FollowUp::Nothing));
    assert_eq!(live.excess(2), Some(executions[1].instance.clone()));
    assert_eq!(live.excess(2), None);
}

#[test]
fn undelivered_outcomes_of_a_dropped_instance_are_stored() {
    let (mut live, execution) = busy();
    let mut stored = stored(&live, &execution);
    stored.undelivered.push(Delivery::Outcome(outcome(&execution)));
    drop(live.remove(&execution.instance));
    let follow_up = live.turn_stored(&turn(&execution, Then::Continue), stored);
    assert!(matches!(follow_up, FollowUp::StoreOutcomes(outcomes) if outcomes.len() == 1));
}

#[test]
fn woken_start_is_delivered_once() {
    let start = MessageRow { visible_at: Some(at(100)), lane: crate::message::Lane::Start, ..MessageRow::new("start") };
    let woken = |number| MessageRow { visible_at: Some(at(5)), number: Some(number), ..start.clone() };
    // The clock is before the time of the timer, and after it.
    for now in [5, 100] {
        let (mut live, execution) = (LiveInstances::default(), new("a").first_execution());
        let event = MessageRow { number: Some(1), ..MessageRow::new("event") };
        let messages = vec![event, start.clone()];
        let _ = live.acquired(AcquiredInstance { messages, arrivals: 1, ..acquired(execution.clone(), 0) }, at(0));
        assert_eq!(live.next_timer(), Some(at(100)));
        let messages = vec![woken(2)];
        let _ = live.acquired(AcquiredInstance { messages, arrivals: 2, ..acquired(execution, 0) }, at(now));
        let (_, deliveries) = live.pop_ready(at(now)).expect("ready");
        assert_eq!(all_data(deliveries), ["start", "event"]);
        assert_eq!(live.next_timer(), None);
    }
}
