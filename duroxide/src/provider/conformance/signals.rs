//! Signals to the nodes and the waiting clients of a process.

use super::fixture::*;
use super::list;
use crate::provider::*;

list![
    work_for_any_node_is_signalled,
    work_for_the_writer_alone_is_not_signalled,
    a_forwarded_message_is_not_signalled,
    changes_of_an_instance_are_signalled,
    the_end_of_an_instance_is_signalled_with_its_outcome,
    a_freed_instance_is_signalled,
    mail_is_signalled_to_the_owner,
    a_cancellation_is_signalled;
    with_admin:
    the_deletion_of_an_instance_is_signalled,
];

async fn work_for_any_node_is_signalled(world: World) {
    let node = world.join().await;
    let work = world.provider.wakeups().subscribe();
    world.start("a").await;
    assert!(work.has_changed().expect("alive"), "a start without an owner");
    let by_node = world.through(&node);
    by_node.start_owned(&node, "i").await;
    let mut work = node.provider.wakeups().subscribe();
    work.mark_unchanged();
    by_node.send("i", message("hello")).await.expect("send");
    assert!(work.has_changed().expect("alive"), "mail for a node of this process");
}

async fn work_for_the_writer_alone_is_not_signalled(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let mut work = node.provider.wakeups().subscribe();
    work.mark_unchanged();
    let turn = Turn {
        events: vec![event(1, "started"), event(2, "scheduled")],
        consumed: vec![new.start.id],
        activities: vec![NewActivity { eager: true, ..new_activity(1, 2) }],
        messages: vec![outgoing("i", "to itself")],
        ..turn("i", 1, 0)
    };
    node.turn(turn).await.expect("turn");
    assert!(!work.has_changed().expect("alive"));
    let more = Turn { activities: vec![new_activity(2, 3)], ..ending("i", 1, 2, Then::Continue) };
    node.turn(more).await.expect("turn");
    assert!(work.has_changed().expect("alive"), "an activity without an owner");
}

async fn a_forwarded_message_is_not_signalled(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut work = node.provider.wakeups().subscribe();
    work.mark_unchanged();
    let send = |lease| Submission::Send(SendRequest { lease: Some(lease), ..send_request("i", message("x")) });
    world.through(&node).submit(send(node.lease)).await.expect("send");
    assert!(!work.has_changed().expect("alive"));
    let other = world.join().await;
    world.through(&node).submit(send(other.lease)).await.expect("send");
    assert!(work.has_changed().expect("alive"), "the client forwards the message to a node that is not the owner");
}

async fn changes_of_an_instance_are_signalled(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut watch = node.provider.wakeups().watch(&id("i"));
    let suspend = Turn { then: suspended(), ..turn("i", 1, 0) };
    node.turn(suspend).await.expect("suspend");
    watch.changed().await;
    let local = world.through(&node);
    local.resume("i").await.expect("resume");
    watch.changed().await;
    node.acquire(want(at(9))).await;
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    watch.changed().await;
}

async fn the_deletion_of_an_instance_is_signalled(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    let local = world.through(&node);
    let mut watch = node.provider.wakeups().watch(&id("i"));
    local.delete("i").await;
    watch.changed().await;
}

async fn the_end_of_an_instance_is_signalled_with_its_outcome(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut watch = node.provider.wakeups().watch(&id("i"));
    let ending = ending("i", 1, 0, completed());
    let identity = ending.execution.identity;
    let outcome = ending.events.last().cloned();
    node.turn(ending).await.expect("finish");
    let told = watch.changed().await;
    // A provider may signal the end without the outcome; then the waiting client reads the outcome.
    if let Some(finished) = told {
        assert_eq!(*finished, Finished { identity, status: InstanceStatus::Completed, outcome });
    }
}

async fn mail_is_signalled_to_the_owner(world: World) {
    let node = world.join().await;
    let local = world.through(&node);
    let owner = node.provider.join(&info("a")).await.expect("join a second node of the process");
    local.submit(start(eager(new_instance("i")), IfExists::Error, Some(owner))).await.expect("start");
    local.start_owned(&node, "j").await;
    let mut work = node.provider.wakeups().subscribe();
    work.mark_unchanged();
    local.send("i", message("hello")).await.expect("send");
    assert!(work.has_changed().expect("alive"), "a client");
    work.mark_unchanged();
    let turn = Turn { messages: vec![outgoing("i", "hello")], ..ending("j", 1, 0, Then::Continue) };
    node.turn(turn).await.expect("turn");
    assert!(work.has_changed().expect("alive"), "a turn");
}

async fn a_cancellation_is_signalled(world: World) {
    let node = world.join().await;
    let runner = node.provider.join(&info("a")).await.expect("join a second node of the process");
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    let claimed = node.provider.acquire(&runner, want(at(3))).await.expect("acquire");
    assert_eq!(claimed.activities.len(), 1);
    let mut work = node.provider.wakeups().subscribe();
    work.mark_unchanged();
    node.turn(ending("i", 1, 2, completed())).await.expect("finish");
    assert!(work.has_changed().expect("alive"));
}

async fn a_freed_instance_is_signalled(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    world.start_owned(&node, "i").await;
    let mut work = other.provider.wakeups().subscribe();
    work.mark_unchanged();
    node.die();
    other.renew().await;
    assert!(work.has_changed().expect("alive"));
}
