//! Identities: an instance with the id of a removed one is another instance, which no write for the removed one affects.

use super::fixture::*;
use super::list;
use crate::history::Parent;
use crate::id::{CallId, CommitId, ExecutionId, Identity};
use crate::provider::*;

list![
    a_replaced_instance_has_another_identity,
    a_turn_of_a_replaced_instance_is_refused,
    the_last_turn_of_a_replaced_instance_is_not_repeated,
    an_outcome_of_a_replaced_instance_is_refused,
    a_release_of_a_replaced_instance_is_refused,
    a_termination_of_a_replaced_instance_conflicts,
    a_history_of_a_replaced_instance_is_empty,
    a_message_with_another_identity_is_refused,
    an_outcome_of_a_child_reaches_only_its_parent,
    a_cancellation_names_the_identity;
    with_admin:
    the_id_of_a_deleted_instance_is_free,
];

/// Replaces an instance with an activity by another one with an activity, both owned by the returned node.
async fn replaced(world: &World) -> (Member, NewInstance) {
    let node = with_activity(world, "i").await;
    node.turn(ending("i", 1, 2, completed())).await.expect("finish");
    let new = world.replace("i", Some(&node)).await;
    let first = Turn {
        events: vec![event(1, "new"), event(2, "scheduled")],
        activities: vec![NewActivity { eager: true, ..new_activity(1, 2) }],
        ..turn("i", 1, 0)
    };
    node.turn(turn_of(&new, first)).await.expect("the first turn of the new instance");
    (node, new)
}

/// Panics if the new instance was changed after [`replaced`] made it, or if it cannot continue.
async fn assert_untouched(world: &World, node: &Member, new: &NewInstance) {
    let record = world.record("i").await;
    assert_eq!((&record.execution, record.last_event.0), (&new.first_execution(), 2));
    assert_eq!((record.status, record.owner), (InstanceStatus::Running, Some(node.lease.epoch)));
    assert_eq!(world.history_of(&record.execution).await.len(), 2);
    assert_eq!(data(&node.load("i").await.messages), ["start"]);
    let outcome = Turn { outcomes: vec![(CallId(1), 1)], ..ending("i", 1, 2, Then::Continue) };
    assert_eq!(node.turn(turn_of(new, outcome)).await, Ok(Committed::default()), "its activity is stored");
}

async fn a_replaced_instance_has_another_identity(world: World) {
    let (node, new) = replaced(&world).await;
    assert_ne!(Identity::from(new.start.id), identity("i"));
    let loaded = node.load("i").await;
    assert_eq!((&loaded.execution, loaded.execution.number, loaded.arrivals), (&new.first_execution(), 1, 1));
    assert_untouched(&world, &node, &new).await;
}

async fn a_turn_of_a_replaced_instance_is_refused(world: World) {
    let (node, new) = replaced(&world).await;
    for then in [Then::Continue, suspended(), completed(), Then::ContinueAsNew { version: None }] {
        assert_eq!(node.turn(ending("i", 1, 2, then)).await, Err(CommitError::Conflict));
    }
    let other = world.join().await;
    assert_eq!(other.turn(ending("i", 1, 2, Then::Continue)).await, Err(CommitError::Fenced));
    assert_untouched(&world, &node, &new).await;
}

async fn the_last_turn_of_a_replaced_instance_is_not_repeated(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let (id, last) = (CommitId::new(), Write::Turn(Box::new(ending("i", 1, 0, completed()))));
    node.commit_as(id, last.clone()).await.expect("finish");
    let new = world.replace("i", Some(&node)).await;
    assert_eq!(node.commit_as(id, last).await, Err(CommitError::Conflict));
    assert_eq!(world.record("i").await.status, InstanceStatus::Running);
    assert!(world.history_of(&new.first_execution()).await.is_empty());
}

async fn an_outcome_of_a_replaced_instance_is_refused(world: World) {
    let (node, new) = replaced(&world).await;
    let of = || tenure("i", 1, 0);
    for write in [outcome(of()), retry(of(), 3), park(of()), Write::ReleaseActivity { tenure: of() }] {
        assert_eq!(node.commit(write.clone()).await, Err(CommitError::Fenced), "{write:?}");
    }
    assert_untouched(&world, &node, &new).await;
}

async fn a_release_of_a_replaced_instance_is_refused(world: World) {
    let (node, new) = replaced(&world).await;
    let release = |execution| Write::ReleaseInstance { execution, claim: 0 };
    assert_eq!(node.commit(release(execution("i", 1))).await, Err(CommitError::Fenced));
    assert_untouched(&world, &node, &new).await;
    assert!(node.commit(release(new.first_execution())).await.is_ok());
}

async fn a_termination_of_a_replaced_instance_conflicts(world: World) {
    let (node, new) = replaced(&world).await;
    let turn = Box::new(ending("i", 1, 2, Then::Finish { status: InstanceStatus::Terminated }));
    let late = world.submit(Submission::Terminate { id: CommitId::new(), turn }).await;
    assert_eq!(late, Err(SubmitError::Conflict));
    assert_untouched(&world, &node, &new).await;
}

async fn a_history_of_a_replaced_instance_is_empty(world: World) {
    let (_, new) = replaced(&world).await;
    assert!(world.history("i", 1).await.is_empty());
    assert_eq!(world.history_of(&new.first_execution()).await[0], event(1, "new"));
    let later = ExecutionId { number: 2, ..new.first_execution() };
    assert!(world.history_of(&later).await.is_empty());
}

async fn a_message_with_another_identity_is_refused(world: World) {
    let (node, new) = replaced(&world).await;
    world.start_owned(&node, "j").await;
    let to = |identity, data| Outgoing { identity, ..outgoing("i", data) };
    let current = Identity::from(new.start.id);
    let messages = vec![
        to(Some(identity("i")), "for the first"),
        to(Some(current), "for the second"),
        to(None, "for any"),
        to(Some(Identity::UNKNOWN), "of an old history"),
    ];
    let sent = node.turn(Turn { messages, ..ending("j", 1, 0, Then::Continue) }).await.expect("turn").messages;
    let placed = |number| Placement::Owned { epoch: node.lease.epoch, identity: current, number: Some(number) };
    assert_eq!(sent, [Placement::Refused, placed(2), placed(3), placed(4)], "a refused message takes no number");
    assert_eq!(data(&node.load("i").await.messages), ["start", "for the second", "for any", "of an old history"]);
    let to_itself = vec![to(Some(identity("i")), "of the first"), to(Some(current), "of the second")];
    let turn = turn_of(&new, Turn { messages: to_itself, ..ending("i", 1, 2, Then::Continue) });
    assert_eq!(node.turn(turn).await.expect("turn").messages, [Placement::Refused, placed(5)]);
}

async fn an_outcome_of_a_child_reaches_only_its_parent(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "parent").await;
    let parent = Parent { execution: execution("parent", 1), call: CallId(1) };
    let new = NewInstance { parent: Some(parent), ..eager(new_instance("child")) };
    let child = NewChild { new, accepted: None, if_taken: message("taken") };
    node.turn(Turn { starts: vec![child], ..ending("parent", 1, 0, Then::Continue) }).await.expect("turn");
    let parent = world.record("child").await.parent.expect("the child has a parent").execution;
    assert_eq!(parent, execution("parent", 1));
    node.turn(ending("parent", 1, 1, completed())).await.expect("finish");
    world.replace("parent", Some(&node)).await;
    let outcome = Outgoing { identity: Some(parent.identity), ..outgoing("parent", "outcome") };
    let last = Turn { messages: vec![outcome], ..ending("child", 1, 0, completed()) };
    assert_eq!(node.turn(last).await.expect("finish").messages, [Placement::Refused]);
    assert_eq!(data(&node.load("parent").await.messages), ["start"]);
}

async fn a_cancellation_names_the_identity(world: World) {
    let (node, runner) = (world.join().await, world.join().await);
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    assert_eq!(runner.acquire(want(at(3))).await.activities.len(), 1);
    node.turn(ending("i", 1, 2, completed())).await.expect("finish");
    let new = world.replace("i", Some(&node)).await;
    let first = Turn { activities: vec![new_activity(1, 1)], ..ending("i", 1, 0, Then::Continue) };
    node.turn(turn_of(&new, first)).await.expect("turn");
    let acquired = runner.acquire(want(at(3))).await;
    assert_eq!(acquired.cancelled, [activity_id("i", 1, 1)]);
    assert_eq!(acquired.activities[0].id.execution, new.first_execution());
    let heard = Want { cancelled: vec![acquired.activities[0].id.clone()], ..Want::new(at(3)) };
    let cancelled = runner.acquire(heard).await.cancelled;
    assert_eq!(cancelled, [activity_id("i", 1, 1)], "the acknowledgement names the activity of the new instance");
    assert!(runner.commit(outcome(tenure_of(&acquired.activities[0]))).await.is_ok());
}

async fn the_id_of_a_deleted_instance_is_free(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, Then::ContinueAsNew { version: None })).await.expect("continue");
    node.turn(ending("i", 2, 0, completed())).await.expect("finish");
    world.delete("i").await;
    let second = eager(another("i"));
    let first_turn = Turn { creates: Some(Box::new(second.clone())), ..ending("i", 1, 0, completed()) };
    assert_eq!(node.turn(turn_of(&second, first_turn)).await, Ok(Committed::default()));
    assert_eq!(world.record("i").await.execution, second.first_execution());
    assert_eq!(world.prune(&Filter::default(), at(9), 10).await, [1]);
    world.start_owned(&node, "parent").await;
    let third = eager(another("i"));
    let child = NewChild { new: third.clone(), accepted: None, if_taken: message("taken") };
    node.turn(Turn { starts: vec![child], ..ending("parent", 1, 0, Then::Continue) }).await.expect("turn");
    assert_eq!(world.record("i").await.execution, third.first_execution());
    let last = turn_of(&third, ending("i", 1, 0, completed()));
    assert_eq!(node.turn(last).await, Ok(Committed::default()));
}
