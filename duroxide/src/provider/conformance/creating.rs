//! First turns that create their instance.

use super::fixture::*;
use super::list;
use crate::history::Parent;
use crate::id::{CallId, CommitId, EventId};
use crate::provider::*;

list![
    a_first_turn_creates_its_instance,
    a_first_turn_can_be_the_last,
    a_first_turn_whose_id_is_taken_conflicts,
    a_first_turn_without_a_lease_creates_nothing,
    a_first_turn_that_is_sent_again_is_done_already,
    a_start_that_was_stored_before_wins_over_its_first_turn,
    a_start_whose_first_turn_is_stored_is_done_already,
    a_first_turn_that_expects_more_creates_nothing;
    with_admin:
    a_first_turn_after_the_removal_creates_nothing,
];

/// Makes a first turn that creates its instance, and schedules activity 1.
fn first_turn(new: &NewInstance) -> Turn {
    let name = new.instance.as_str();
    Turn {
        creates: Some(Box::new(new.clone())),
        events: vec![event(1, "started"), event(2, "scheduled")],
        activities: vec![NewActivity { eager: true, ..new_activity(1, 2) }],
        execution: new.first_execution(),
        ..turn(name, 1, 0)
    }
}

async fn a_first_turn_creates_its_instance(world: World) {
    let node = world.join().await;
    let new = NewInstance {
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        parent: Some(Parent { execution: execution("p", 3), call: CallId(4) }),
        ..eager(new_instance("i"))
    };
    assert_eq!(node.turn(first_turn(&new)).await, Ok(Committed::default()));
    let record = world.record("i").await;
    assert_eq!((&record.name, &record.labels, record.parent), (&new.name, &new.labels, new.parent));
    assert_eq!((record.execution, record.version), (execution("i", 1), Some(v1())));
    assert_eq!((record.last_event, record.owner), (EventId(2), Some(node.lease.epoch)));
    assert_eq!((record.status, record.created_at, record.updated_at), (InstanceStatus::Running, at(2), at(2)));
    assert_eq!(world.history("i", 1).await, [event(1, "started"), event(2, "scheduled")]);
    let loaded = node.load("i").await;
    assert_eq!((loaded.messages.len(), loaded.arrivals), (0, 0), "its start is not a message");
    let outcome = Turn { outcomes: vec![(CallId(1), 1)], ..ending("i", 1, 2, completed()) };
    assert_eq!(node.turn(outcome).await, Ok(Committed::default()));
}

async fn a_first_turn_can_be_the_last(world: World) {
    let node = world.join().await;
    for (name, then) in [("done", completed()), ("on", Then::ContinueAsNew { version: None })] {
        let start = MessageRow { execution: Some(2), lane: crate::message::Lane::Start, ..message("start") };
        let next = Outgoing { message: start, ..outgoing(name, "start") };
        let on = matches!(then, Then::ContinueAsNew { .. });
        let messages = if on { vec![next] } else { Vec::new() };
        let turn = Turn { creates: Some(Box::new(eager(new_instance(name)))), messages, ..ending(name, 1, 0, then) };
        node.turn(turn).await.expect("turn");
        let record = world.record(name).await;
        let expected = if on { (InstanceStatus::Running, 2) } else { (InstanceStatus::Completed, 1) };
        assert_eq!((record.status, record.execution.number), expected);
        assert_eq!(record.owner, on.then_some(node.lease.epoch));
    }
}

async fn a_first_turn_whose_id_is_taken_conflicts(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    world.start("queued").await;
    world.start_owned(&node, "own").await;
    world.start_owned(&other, "others").await;
    world.start_owned(&node, "ended").await;
    node.turn(ending("ended", 1, 0, completed())).await.expect("finish");
    for name in ["queued", "own", "others", "ended"] {
        let before = world.record(name).await;
        assert_eq!(node.turn(first_turn(&eager(another(name)))).await, Err(CommitError::Conflict), "{name}");
        assert_eq!(format!("{:?}", world.record(name).await), format!("{before:?}"), "{name}");
    }
    assert!(node.acquire(want(at(3))).await.activities.is_empty());
}

async fn a_first_turn_without_a_lease_creates_nothing(world: World) {
    let node = world.join().await;
    node.provider.leave(&node.lease).await.expect("leave");
    assert_eq!(node.turn(first_turn(&eager(new_instance("i")))).await, Err(CommitError::Fenced));
    assert!(world.find("i").await.is_none());
}

async fn a_first_turn_that_is_sent_again_is_done_already(world: World) {
    let node = world.join().await;
    let (id, turn) = (CommitId::new(), first_turn(&eager(new_instance("i"))));
    assert_eq!(node.commit_as(id, Write::Turn(Box::new(turn.clone()))).await, Ok(Committed::default()));
    let again = node.commit_as(id, Write::Turn(Box::new(turn))).await;
    assert_eq!(again, Ok(Committed { repeated: true, ..Committed::default() }));
    assert_eq!(world.history("i", 1).await.len(), 2);
}

async fn a_start_that_was_stored_before_wins_over_its_first_turn(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    assert_eq!(node.turn(first_turn(&new)).await, Err(CommitError::Conflict));
    assert_eq!(data(&node.load("i").await.messages), ["start"]);
}

async fn a_start_whose_first_turn_is_stored_is_done_already(world: World) {
    let node = world.join().await;
    let new = eager(new_instance("i"));
    node.turn(first_turn(&new)).await.expect("turn");
    for policy in [IfExists::Error, IfExists::Attach, IfExists::Replace] {
        let started = world.submit(start(new.clone(), policy, Some(node.lease))).await;
        assert_eq!(started, Ok(node.owned("i")));
    }
    assert_eq!(world.record("i").await.last_event, EventId(2));
}

async fn a_first_turn_after_the_removal_creates_nothing(world: World) {
    let node = world.join().await;
    let new = eager(new_instance("i"));
    node.turn(first_turn(&new)).await.expect("turn");
    node.turn(ending("i", 1, 2, completed())).await.expect("finish");
    world.delete("i").await;
    assert_eq!(node.turn(first_turn(&new)).await, Err(CommitError::Conflict));
    let again = world.submit(start(new, IfExists::Error, Some(node.lease))).await;
    assert!(again.is_ok_and(|submitted| submitted.written), "the client learns that the instance was started");
    assert!(world.find("i").await.is_none());
}

async fn a_first_turn_that_expects_more_creates_nothing(world: World) {
    let node = world.join().await;
    let good = first_turn(&eager(new_instance("i")));
    let consumes = Turn { consumed: vec![crate::id::MessageId::new()], ..good.clone() };
    let outcome = Turn { outcomes: vec![(CallId(9), 1)], ..good.clone() };
    let later = Turn { after: EventId(1), ..good.clone() };
    let second = Turn { execution: execution("i", 2), ..good.clone() };
    let of_another = turn_of(&another("i"), good);
    for turn in [consumes, outcome, later, second, of_another] {
        assert_eq!(node.turn(turn).await, Err(CommitError::Conflict));
        assert!(world.find("i").await.is_none());
    }
}
