//! Turns: atomic, fenced, idempotent; and what instances do after them.

use std::sync::Arc;

use super::fixture::*;
use super::list;
use crate::id::{CallId, CommitId, EventId, MessageId};
use crate::message::Lane;
use crate::provider::*;

list![
    a_turn_writes_all_that_it_says,
    a_turn_of_another_node_is_fenced,
    a_turn_behind_another_event_conflicts,
    a_turn_of_another_execution_conflicts,
    a_turn_whose_message_is_gone_writes_nothing,
    a_turn_whose_activity_is_gone_writes_nothing,
    a_turn_with_another_attempt_writes_nothing,
    a_turn_that_is_sent_again_is_done_already,
    a_bad_entry_does_not_harm_its_neighbours,
    an_empty_batch_is_answered,
    a_thousand_entries_are_one_batch,
    a_finished_instance_leaves_nothing_behind,
    a_suspended_instance_has_no_owner,
    an_execution_goes_on_as_new,
    what_belongs_to_the_old_execution_does_not_reach_the_new,
    children_are_started,
    a_child_whose_id_is_taken_is_refused,
    a_message_to_nobody_is_refused,
    a_message_reaches_an_instance_started_in_the_same_turn,
    large_payloads_come_back,
];

async fn a_turn_writes_all_that_it_says(world: World) {
    let node = with_activity(&world, "i").await;
    let record = world.record("i").await;
    assert_eq!((record.last_event, record.version), (EventId(2), Some(v1())));
    assert_eq!((record.owner, record.updated_at), (Some(node.lease.epoch), at(2)));
    let history = world.history("i", 1).await;
    assert_eq!(history, [event(1, "started"), EventRow { payload: text("input"), ..event(2, "scheduled") }]);
    assert!(world.nodes().await.is_none_or(|nodes| nodes[0].activities == 1));
    let outcome = Turn { outcomes: vec![(CallId(1), 1)], ..ending("i", 1, 2, Then::Go) };
    assert_eq!(node.turn(outcome).await, Ok(Committed::default()));
    assert!(world.nodes().await.is_none_or(|nodes| nodes[0].activities == 0));
}

async fn a_turn_of_another_node_is_fenced(world: World) {
    let (owner, other) = (world.join().await, world.join().await);
    world.start_owned(&owner, "i").await;
    assert_eq!(other.turn(ending("i", 1, 0, Then::Go)).await, Err(CommitError::Fenced));
    assert_eq!(owner.turn(ending("none", 1, 0, Then::Go)).await, Err(CommitError::Fenced));
    assert!(world.history("i", 1).await.is_empty());
}

async fn a_turn_behind_another_event_conflicts(world: World) {
    let node = with_activity(&world, "i").await;
    assert_eq!(node.turn(ending("i", 1, 1, Then::Go)).await, Err(CommitError::Conflict));
    assert_eq!(node.turn(ending("i", 1, 3, Then::Go)).await, Err(CommitError::Conflict));
    assert_eq!(world.history("i", 1).await.len(), 2);
}

async fn a_turn_of_another_execution_conflicts(world: World) {
    let node = with_activity(&world, "i").await;
    assert_eq!(node.turn(ending("i", 2, 2, Then::Go)).await, Err(CommitError::Conflict));
}

async fn a_turn_whose_message_is_gone_writes_nothing(world: World) {
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
    assert!(node.turn(all_there).await.is_ok(), "the message that was there is still there");
}

async fn a_turn_whose_activity_is_gone_writes_nothing(world: World) {
    let node = with_activity(&world, "i").await;
    let turn = Turn { outcomes: vec![(CallId(1), 1), (CallId(9), 1)], ..ending("i", 1, 2, Then::Go) };
    assert_eq!(node.turn(turn.clone()).await, Err(CommitError::Conflict));
    assert_eq!(world.record("i").await.last_event, EventId(2));
    assert!(node.turn(Turn { outcomes: vec![(CallId(1), 1)], ..turn }).await.is_ok());
}

async fn a_turn_with_another_attempt_writes_nothing(world: World) {
    let node = with_activity(&world, "i").await;
    let turn = Turn { outcomes: vec![(CallId(1), 2)], ..ending("i", 1, 2, Then::Go) };
    assert_eq!(node.turn(turn).await, Err(CommitError::Conflict));
}

async fn a_turn_that_is_sent_again_is_done_already(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let id = CommitId::new();
    for (then, after) in [(Then::Go, 0), (Then::ContinueAsNew { version: None }, 1), (completed(), 0)] {
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
    let bad = Turn { consumed: vec![MessageId::new()], ..ending("b", 1, 0, Then::Go) };
    let turns = [ending("a", 1, 0, Then::Go), bad, ending("c", 1, 0, completed())];
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
    assert_eq!(node.renew().await, Renewal::Held { cancelled: vec![activity_id("i", 1, 1)] });
    let left = node.acquire(want(at(9))).await;
    assert!(left.instances.is_empty() && left.messages.is_empty());
    let left: Vec<_> = left.activities.iter().map(|activity| activity.id.clone()).collect();
    assert_eq!(left, [activity_id("i", 1, 2)], "only what is detached goes on");
    assert_eq!(node.turn(ending("i", 1, 3, Then::Go)).await, Err(CommitError::Fenced));
}

async fn a_suspended_instance_has_no_owner(world: World) {
    let node = with_activity(&world, "i").await;
    let turn = Turn { then: Then::Suspend { reason: "\"why\"".to_owned() }, ..turn("i", 1, 2) };
    node.turn(turn).await.expect("suspend");
    let record = world.record("i").await;
    assert_eq!((record.status, record.owner), (InstanceStatus::Suspended, None));
    assert_eq!(record.suspension.as_deref(), Some("\"why\""));
    world.send("i", message("later")).await.expect("a suspended instance takes messages");
    assert!(node.acquire(want(at(9))).await.instances.is_empty(), "it is not handed out");
    assert_eq!(node.turn(ending("i", 1, 2, Then::Go)).await, Err(CommitError::Fenced));
    assert_eq!(world.resume("i").await, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
    let instances = node.acquire(want(at(9))).await.instances;
    assert_eq!(data(&instances[0].messages), ["later"]);
    assert_eq!(world.record("i").await.suspension, None);
}

async fn an_execution_goes_on_as_new(world: World) {
    let node = with_activity(&world, "i").await;
    let mut next = outgoing("i", "again");
    next.message.lane = Lane::Start;
    next.message.execution = Some(2);
    let turn = Turn { messages: vec![next], ..ending("i", 1, 2, Then::ContinueAsNew { version: None }) };
    let committed = node.turn(turn).await.expect("continue");
    assert_eq!(committed.messages, [Placement::Owned(node.lease.epoch)]);
    let record = world.record("i").await;
    assert_eq!((record.execution.number, record.last_event, record.version), (2, EventId(0), None));
    assert_eq!((record.status, record.owner), (InstanceStatus::Running, Some(node.lease.epoch)));
    assert_eq!((world.history("i", 1).await.len(), world.history("i", 2).await.len()), (3, 0));
    let loaded = node.acquire(Want { load: vec![id("i")], ..want(at(3)) }).await.instances;
    assert_eq!(data(&loaded[0].messages), ["again"]);
    node.turn(ending("i", 2, 0, completed())).await.expect("the new execution is at its beginning");
}

async fn what_belongs_to_the_old_execution_does_not_reach_the_new(world: World) {
    let node = with_activity(&world, "i").await;
    let old = MessageRow { execution: Some(1), ..message("for 1") };
    world.send("i", old.clone()).await.expect("send");
    world.send("i", message("for any")).await.expect("send");
    node.turn(ending("i", 1, 2, Then::ContinueAsNew { version: Some(v1()) })).await.expect("continue");
    assert_eq!(world.record("i").await.version, Some(v1()));
    assert_eq!(node.renew().await, Renewal::Held { cancelled: vec![activity_id("i", 1, 1)] });
    let late = MessageRow { execution: Some(1), ..message("late") };
    assert_eq!(world.send("i", late.clone()).await, Err(SubmitError::Conflict));
    let turn = Turn { messages: vec![Outgoing { to: id("i"), message: late }], ..ending("i", 2, 0, Then::Go) };
    assert_eq!(node.turn(turn).await.expect("turn").messages, [Placement::Refused]);
    let loaded = node.acquire(Want { load: vec![id("i")], ..want(at(3)) }).await.instances;
    assert_eq!(data(&loaded[0].messages), ["for any"]);
    assert!(world.send("i", old).await.is_ok(), "it was delivered once, and is remembered");
}

pub(super) fn child(name: &str) -> NewChild {
    NewChild { new: new_instance(name), accepted: Some(message("accepted")), otherwise: message("taken") }
}

async fn children_are_started(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut eager = child("mine");
    eager.new.eager = true;
    let turn = Turn { starts: vec![eager, child("free")], ..ending("i", 1, 0, Then::Go) };
    let committed = node.turn(turn).await.expect("turn");
    assert_eq!(committed.starts, [Placement::Owned(node.lease.epoch), Placement::Queued]);
    assert_eq!(world.record("mine").await.owner, Some(node.lease.epoch));
    let acquired = node.acquire(Want { load: vec![id("i")], ..want(at(3)) }).await.instances;
    assert_eq!(data(&acquired[0].messages), ["start", "accepted", "accepted"]);
    assert_eq!((&acquired[1].execution, data(&acquired[1].messages)), (&execution("free", 1), vec!["start"]));
}

async fn a_child_whose_id_is_taken_is_refused(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let there = world.start("there").await;
    let turn = Turn { starts: vec![child("there")], ..ending("i", 1, 0, Then::Go) };
    assert_eq!(node.turn(turn).await.expect("turn").starts, [Placement::Refused]);
    let acquired = node.acquire(Want { load: vec![id("i")], ..want(at(3)) }).await.instances;
    assert_eq!(data(&acquired[0].messages), ["start", "taken"]);
    assert_eq!(acquired[1].messages[0].id, there.start.id, "the one that was there is untouched");
}

async fn a_message_to_nobody_is_refused(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let turn = Turn { messages: vec![outgoing("none", "hello")], ..ending("i", 1, 0, Then::Go) };
    assert_eq!(node.turn(turn).await.expect("turn").messages, [Placement::Refused]);
    let loaded = node.acquire(Want { load: vec![id("i")], ..want(at(3)) }).await.instances;
    assert_eq!(data(&loaded[0].messages), ["start"]);
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
    let mut new = NewInstance { eager: true, ..new_instance("i") };
    new.start.payload = large.clone();
    world.submit(start(new.clone(), IfExists::Error, Some(node.lease))).await.expect("start");
    let loaded = node.acquire(Want { load: vec![id("i")], ..want(at(3)) }).await.instances;
    assert_eq!(loaded[0].messages[0].payload, large);
    let events = [large.clone(), other.clone(), large.clone(), text(""), text("null")];
    let events = (1..).zip(events).map(|(n, payload)| EventRow { payload, ..event(n, "e") });
    let events: Vec<_> = events.chain([event(6, "null")]).collect();
    let turn = Turn { events: events.clone(), consumed: vec![new.start.id], ..turn("i", 1, 0) };
    node.turn(turn).await.expect("turn");
    assert_eq!(world.history("i", 1).await, events);
}
