//! Turns: they are atomic, fenced and idempotent, and they set the state of their instance.

use std::sync::Arc;

use super::fixture::*;
use super::list;
use crate::id::{CallId, CommitId, EventId, MessageId};
use crate::message::Lane;
use crate::provider::*;

list![
    a_turn_writes_all_its_parts,
    a_turn_of_another_node_is_fenced,
    a_turn_after_another_event_conflicts,
    a_turn_of_another_execution_conflicts,
    a_turn_whose_message_is_missing_writes_nothing,
    a_turn_whose_activity_is_missing_writes_nothing,
    a_turn_with_another_attempt_writes_nothing,
    a_turn_that_is_sent_again_is_done_already,
    a_turn_without_events_that_is_sent_again_is_done_already,
    a_bad_entry_does_not_harm_its_neighbours,
    an_empty_batch_is_answered,
    a_thousand_entries_are_one_batch,
    a_finished_instance_leaves_nothing_behind,
    a_suspended_instance_has_no_owner,
    an_execution_continues_as_new,
    messages_of_the_old_execution_do_not_reach_the_new_one,
    children_are_started,
    the_answer_about_a_child_is_placed,
    a_child_whose_id_is_taken_is_refused,
    a_message_to_no_instance_is_refused,
    a_message_reaches_an_instance_started_in_the_same_turn,
    large_payloads_come_back,
];

async fn a_turn_writes_all_its_parts(world: World) {
    let node = with_activity(&world, "i").await;
    let record = world.record("i").await;
    assert_eq!((record.last_event, record.version), (EventId(2), Some(v1())));
    assert_eq!((record.owner, record.updated_at), (Some(node.lease.epoch), at(2)));
    let history = world.history("i", 1).await;
    assert_eq!(history, [event(1, "started"), EventRow { payload: text("input"), ..event(2, "scheduled") }]);
    assert!(world.nodes().await.is_none_or(|nodes| nodes[0].activities == 1));
    let outcome = Turn { outcomes: vec![(CallId(1), 1)], ..ending("i", 1, 2, Then::Continue) };
    assert_eq!(node.turn(outcome).await, Ok(Committed::default()));
    assert!(world.nodes().await.is_none_or(|nodes| nodes[0].activities == 0));
}

async fn a_turn_of_another_node_is_fenced(world: World) {
    let (owner, other) = (world.join().await, world.join().await);
    world.start_owned(&owner, "i").await;
    assert_eq!(other.turn(ending("i", 1, 0, Then::Continue)).await, Err(CommitError::Fenced));
    assert_eq!(owner.turn(ending("none", 1, 0, Then::Continue)).await, Err(CommitError::Fenced));
    assert!(world.history("i", 1).await.is_empty());
}

async fn a_turn_after_another_event_conflicts(world: World) {
    let node = with_activity(&world, "i").await;
    assert_eq!(node.turn(ending("i", 1, 1, Then::Continue)).await, Err(CommitError::Conflict));
    assert_eq!(node.turn(ending("i", 1, 3, Then::Continue)).await, Err(CommitError::Conflict));
    assert_eq!(world.history("i", 1).await.len(), 2);
}

async fn a_turn_of_another_execution_conflicts(world: World) {
    let node = with_activity(&world, "i").await;
    assert_eq!(node.turn(ending("i", 2, 2, Then::Continue)).await, Err(CommitError::Conflict));
}

async fn a_turn_whose_message_is_missing_writes_nothing(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let turn = Turn {
        consumed: vec![new.start.id, MessageId::new()],
        starts: vec![child("c")],
        ..ending("i", 1, 0, completed())
    };
    assert_eq!(node.turn(turn.clone()).await, Err(CommitError::Conflict));
    let record = world.record("i").await;
    assert_eq!((record.status, record.last_event), (InstanceStatus::Running, EventId(0)));
    assert!(world.history("i", 1).await.is_empty());
    assert!(world.find("c").await.is_none());
    let all_there = Turn { consumed: vec![new.start.id], ..turn };
    assert!(node.turn(all_there).await.is_ok(), "the refused turn has not removed the message");
}

async fn a_turn_whose_activity_is_missing_writes_nothing(world: World) {
    let node = with_activity(&world, "i").await;
    let turn = Turn { outcomes: vec![(CallId(1), 1), (CallId(9), 1)], ..ending("i", 1, 2, Then::Continue) };
    assert_eq!(node.turn(turn.clone()).await, Err(CommitError::Conflict));
    assert_eq!(world.record("i").await.last_event, EventId(2));
    assert!(node.turn(Turn { outcomes: vec![(CallId(1), 1)], ..turn }).await.is_ok());
}

async fn a_turn_with_another_attempt_writes_nothing(world: World) {
    let node = with_activity(&world, "i").await;
    let turn = Turn { outcomes: vec![(CallId(1), 2)], ..ending("i", 1, 2, Then::Continue) };
    assert_eq!(node.turn(turn).await, Err(CommitError::Conflict));
}

async fn a_turn_without_events_that_is_sent_again_is_done_already(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let begun = Turn { consumed: vec![new.start.id], ..ending("i", 1, 0, Then::Continue) };
    node.turn(begun).await.expect("the first turn");
    let (id, turn) = (CommitId::new(), Turn { events: Vec::new(), ..turn("i", 1, 1) });
    for repeated in [false, true] {
        let committed = node.commit_as(id, Write::Turn(Box::new(turn.clone()))).await.expect("it is done");
        assert_eq!(committed, Committed { repeated, ..Committed::default() });
    }
}

async fn a_turn_that_is_sent_again_is_done_already(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let id = CommitId::new();
    for (then, after) in [(Then::Continue, 0), (Then::ContinueAsNew { version: None }, 1), (completed(), 0)] {
        let number = world.record("i").await.execution.number;
        let consumed = if after == 0 && number == 1 { vec![new.start.id] } else { Vec::new() };
        let turn =
            Turn { consumed, starts: vec![child(&format!("c{number}{after}"))], ..ending("i", number, after, then) };
        let id = if after == 0 { id } else { CommitId::new() };
        let id = if number == 2 { CommitId::new() } else { id };
        let first = node.commit_as(id, Write::Turn(Box::new(turn.clone()))).await.expect("the first time");
        assert!(!first.repeated);
        let again = node.commit_as(id, Write::Turn(Box::new(turn))).await.expect("the second time");
        assert_eq!(again, Committed { repeated: true, ..Committed::default() });
    }
    assert_eq!((world.history("i", 1).await.len(), world.history("i", 2).await.len()), (2, 1));
}

async fn a_bad_entry_does_not_harm_its_neighbours(world: World) {
    let node = world.join().await;
    for name in ["a", "b", "c"] {
        world.start_owned(&node, name).await;
    }
    let bad = Turn { consumed: vec![MessageId::new()], ..ending("b", 1, 0, Then::Continue) };
    let turns = [ending("a", 1, 0, Then::Continue), bad, ending("c", 1, 0, completed())];
    let entry = |turn| Arc::new(Commit { id: CommitId::new(), write: Write::Turn(Box::new(turn)) });
    let results = node.provider.commit(&node.lease, turns.map(entry).to_vec()).await.expect("commit");
    assert_eq!(results, [Ok(Committed::default()), Err(CommitError::Conflict), Ok(Committed::default())]);
    let counts =
        (world.history("a", 1).await.len(), world.history("b", 1).await.len(), world.history("c", 1).await.len());
    assert_eq!(counts, (1, 0, 1));
}

async fn an_empty_batch_is_answered(world: World) {
    let node = world.join().await;
    assert!(node.provider.commit(&node.lease, Vec::new()).await.expect("commit").is_empty());
    assert!(world.provider.submit(Vec::new()).await.expect("submit").is_empty());
}

async fn a_thousand_entries_are_one_batch(world: World) {
    let node = world.join().await;
    let names: Vec<_> = (0..1000).map(|n| format!("i{n}")).collect();
    let eager = |name: &String| NewInstance { eager: true, ..new_instance(name) };
    let starts = names.iter().map(|name| start(eager(name), IfExists::Error, Some(node.lease))).collect();
    let started = world.provider.submit(starts).await.expect("submit");
    assert_eq!(started.iter().filter(|result| result.is_ok()).count(), 1000);
    let entry = |name: &String| {
        let turn = ending(name, 1, 0, completed());
        Arc::new(Commit { id: CommitId::new(), write: Write::Turn(Box::new(turn)) })
    };
    let results = node.provider.commit(&node.lease, names.iter().map(entry).collect()).await.expect("commit");
    assert!(results.iter().all(|result| *result == Ok(Committed::default())));
    for name in &names {
        assert_eq!(world.record(name).await.status, InstanceStatus::Completed, "{name}");
    }
}

async fn a_finished_instance_leaves_nothing_behind(world: World) {
    let node = with_activity(&world, "i").await;
    world.send("i", message("unread")).await.expect("send");
    let parting = NewActivity { detached: true, ..new_activity(2, 3) };
    let turn = Turn {
        activities: vec![parting],
        messages: vec![outgoing("i", "to itself")],
        ..ending("i", 1, 2, completed())
    };
    let committed = node.turn(turn).await.expect("the last turn");
    assert_eq!(committed.messages, [Placement::Refused]);
    let record = world.record("i").await;
    assert_eq!((record.status, record.owner, record.finished_at), (InstanceStatus::Completed, None, Some(at(2))));
    assert_eq!(record.outcome, Some(event(3, "end")));
    let left = node.acquire(want(at(9))).await;
    assert!(left.instances.is_empty() && left.cancelled.is_empty());
    let left: Vec<_> = left.activities.iter().map(|activity| activity.id.clone()).collect();
    assert_eq!(left, [activity_id("i", 1, 2)], "only the detached activity is left");
    assert_eq!(node.turn(ending("i", 1, 3, Then::Continue)).await, Err(CommitError::Fenced));
}

async fn a_suspended_instance_has_no_owner(world: World) {
    let node = with_activity(&world, "i").await;
    let turn = Turn { then: suspended(), ..turn("i", 1, 2) };
    node.turn(turn).await.expect("suspend");
    let record = world.record("i").await;
    assert_eq!((record.status, record.owner), (InstanceStatus::Suspended, None));
    assert_eq!(record.suspension.as_deref(), Some("\"why\""));
    world.send("i", message("later")).await.expect("a suspended instance accepts messages");
    assert!(node.acquire(want(at(9))).await.instances.is_empty(), "it is not claimed");
    assert_eq!(node.turn(ending("i", 1, 2, Then::Continue)).await, Err(CommitError::Fenced));
    assert_eq!(world.resume("i").await, Ok(unowned("i")));
    let instances = node.acquire(want(at(9))).await.instances;
    assert_eq!(data(&instances[0].messages), ["later"]);
    assert_eq!(world.record("i").await.suspension, None);
}

async fn an_execution_continues_as_new(world: World) {
    let node = with_activity(&world, "i").await;
    let mut next = outgoing("i", "again");
    next.message.lane = Lane::Start;
    next.message.execution = Some(2);
    let turn = Turn { messages: vec![next], ..ending("i", 1, 2, Then::ContinueAsNew { version: None }) };
    let committed = node.turn(turn).await.expect("continue");
    assert_eq!(committed.messages, [node.placed("i", 2)]);
    let record = world.record("i").await;
    assert_eq!((record.execution.number, record.last_event, record.version), (2, EventId(0), None));
    assert_eq!((record.status, record.owner), (InstanceStatus::Running, Some(node.lease.epoch)));
    assert_eq!((world.history("i", 1).await.len(), world.history("i", 2).await.len()), (3, 0));
    let loaded = node.load("i").await;
    assert_eq!(data(&loaded.messages), ["again"]);
    node.turn(ending("i", 2, 0, completed())).await.expect("the new execution is at its beginning");
}

async fn messages_of_the_old_execution_do_not_reach_the_new_one(world: World) {
    let node = with_activity(&world, "i").await;
    let old = MessageRow { execution: Some(1), ..message("for 1") };
    world.send("i", old.clone()).await.expect("send");
    world.send("i", message("for any")).await.expect("send");
    node.turn(ending("i", 1, 2, Then::ContinueAsNew { version: Some(v1()) })).await.expect("continue");
    assert_eq!(world.record("i").await.version, Some(v1()));
    let late = MessageRow { execution: Some(1), ..message("late") };
    assert_eq!(world.send("i", late.clone()).await, Err(SubmitError::Conflict));
    let turn =
        Turn { messages: vec![Outgoing { message: late, ..outgoing("i", "") }], ..ending("i", 2, 0, Then::Continue) };
    assert_eq!(node.turn(turn).await.expect("turn").messages, [Placement::Refused]);
    let loaded = node.load("i").await;
    assert_eq!(data(&loaded.messages), ["for any"]);
    assert!(world.send("i", old).await.is_ok(), "its id is remembered as processed");
}

pub(super) fn child(name: &str) -> NewChild {
    NewChild { new: new_instance(name), accepted: Some(message("accepted")), if_taken: message("taken") }
}

async fn children_are_started(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut eager = child("mine");
    eager.new.eager = true;
    let turn = Turn { starts: vec![eager, child("free")], ..ending("i", 1, 0, Then::Continue) };
    let committed = node.turn(turn).await.expect("turn");
    let answered = |start, number| ChildPlacement { start, answer: Some(node.placed("i", number)) };
    assert_eq!(committed.starts, [answered(node.placed("mine", 1), 2), answered(Placement::Queued, 3)]);
    assert_eq!(world.record("mine").await.owner, Some(node.lease.epoch));
    assert_eq!(data(&node.load("i").await.messages), ["start", "accepted", "accepted"]);
    let claimed = node.acquire(want(at(3))).await.instances;
    assert_eq!((&claimed[0].execution, data(&claimed[0].messages)), (&execution("free", 1), vec!["start"]));
}

async fn the_answer_about_a_child_is_placed(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let silent = |name| NewChild { accepted: None, ..child(name) };
    let last = Turn { starts: vec![silent("a"), silent("i"), child("b")], ..ending("i", 1, 0, completed()) };
    let placed = |start, answer| ChildPlacement { start, answer };
    let expected = [
        placed(Placement::Queued, None),
        placed(Placement::Refused, Some(Placement::Refused)),
        placed(Placement::Queued, Some(Placement::Refused)),
    ];
    assert_eq!(node.turn(last).await.expect("turn").starts, expected, "the instance of the turn has finished");
}

async fn a_child_whose_id_is_taken_is_refused(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let there = world.start("there").await;
    let new = NewInstance { start: message("another"), ..new_instance("there") };
    let turn = Turn { starts: vec![NewChild { new, ..child("there") }], ..ending("i", 1, 0, Then::Continue) };
    let refused = ChildPlacement { start: Placement::Refused, answer: Some(node.placed("i", 2)) };
    assert_eq!(node.turn(turn).await.expect("turn").starts, [refused]);
    assert_eq!(data(&node.load("i").await.messages), ["start", "taken"]);
    let claimed = node.acquire(want(at(3))).await.instances;
    assert_eq!(claimed[0].messages[0].id, there.start.id, "the instance with the id is untouched");
}

async fn a_message_to_no_instance_is_refused(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let turn = Turn { messages: vec![outgoing("none", "hello")], ..ending("i", 1, 0, Then::Continue) };
    assert_eq!(node.turn(turn).await.expect("turn").messages, [Placement::Refused]);
    let loaded = node.load("i").await;
    assert_eq!(data(&loaded.messages), ["start"]);
}

async fn a_message_reaches_an_instance_started_in_the_same_turn(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let turn =
        Turn { starts: vec![child("c")], messages: vec![outgoing("c", "hello")], ..ending("i", 1, 0, completed()) };
    assert_eq!(node.turn(turn).await.expect("turn").messages, [Placement::Queued]);
    let acquired = node.acquire(want(at(3))).await.instances;
    assert_eq!(data(&acquired[0].messages), ["start", "hello"]);
}

async fn large_payloads_come_back(world: World) {
    let node = world.join().await;
    let large = text(&"ü large ".repeat(30_000));
    let other = text(&"another ".repeat(300));
    let mut new = eager(new_instance("i"));
    new.start.payload = large.clone();
    world.submit(start(new.clone(), IfExists::Error, Some(node.lease))).await.expect("start");
    let loaded = node.load("i").await;
    assert_eq!(loaded.messages[0].payload, large);
    let events = [large.clone(), other.clone(), large.clone(), text(""), text("null")];
    let events = (1..).zip(events).map(|(n, payload)| EventRow { payload, ..event(n, "e") });
    let events: Vec<_> = events.chain([event(6, "null")]).collect();
    let turn = Turn { events: events.clone(), consumed: vec![new.start.id], ..turn("i", 1, 0) };
    node.turn(turn).await.expect("turn");
    assert_eq!(world.history("i", 1).await, events);
}
