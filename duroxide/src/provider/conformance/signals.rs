//! Who sleeps is woken.

use super::fixture::*;
use super::list;
use crate::provider::*;

list![
    work_for_anybody_is_told,
    work_for_the_writer_alone_is_not_told,
    a_message_that_the_client_hands_over_is_not_told,
    changes_of_an_instance_are_told,
    the_end_of_an_instance_is_told_with_its_outcome,
    a_freed_instance_is_told;
    with_admin:
    the_deletion_of_an_instance_is_told,
];

async fn work_for_anybody_is_told(world: World) {
    let node = world.join().await;
    let mut work = world.provider.wakeups().subscribe();
    let mut told = || std::mem::replace(&mut work, world.provider.wakeups().subscribe()).has_changed().expect("alive");
    world.start("a").await;
    assert!(told(), "a start without an owner");
    let by_node = world.through(&node);
    by_node.start_owned(&node, "i").await;
    world.send("i", message("hello")).await.expect("send");
    assert!(told(), "a message for an instance that somebody owns");
}

async fn work_for_the_writer_alone_is_not_told(world: World) {
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
    let more = Turn { activities: vec![new_activity(2, 3)], ..ending("i", 1, 2, Then::Go) };
    node.turn(more).await.expect("turn");
    assert!(work.has_changed().expect("alive"), "an activity without an owner");
}

async fn a_message_that_the_client_hands_over_is_not_told(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut work = node.provider.wakeups().subscribe();
    work.mark_unchanged();
    let send =
        |lease| Submission::Send { to: id("i"), message: message("x"), lease: Some(lease), time: at(2), again: false };
    world.through(&node).submit(send(node.lease)).await.expect("send");
    assert!(!work.has_changed().expect("alive"));
    let other = world.join().await;
    world.through(&node).submit(send(other.lease)).await.expect("send");
    assert!(work.has_changed().expect("alive"), "the owner is not the one whose client hands it over");
}

async fn changes_of_an_instance_are_told(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut watch = node.provider.wakeups().watch(&id("i"));
    let suspend = Turn { then: Then::Suspend { reason: "\"x\"".to_owned() }, ..turn("i", 1, 0) };
    node.turn(suspend).await.expect("suspend");
    watch.changed().await;
    let local = world.through(&node);
    local.resume("i").await.expect("resume");
    watch.changed().await;
    node.acquire(want(at(9))).await;
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    watch.changed().await;
}

async fn the_deletion_of_an_instance_is_told(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    let local = world.through(&node);
    let mut watch = node.provider.wakeups().watch(&id("i"));
    local.delete("i").await;
    watch.changed().await;
}

async fn the_end_of_an_instance_is_told_with_its_outcome(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let mut watch = node.provider.wakeups().watch(&id("i"));
    let ending = ending("i", 1, 0, completed());
    let outcome = ending.events.last().cloned();
    node.turn(ending).await.expect("finish");
    let told = watch.changed().await;
    // A provider may leave it to the waiting to read it.
    if let Some(finished) = told {
        assert_eq!(*finished, Finished { status: InstanceStatus::Completed, outcome });
    }
}

async fn a_freed_instance_is_told(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    world.start_owned(&node, "i").await;
    let mut work = other.provider.wakeups().subscribe();
    work.mark_unchanged();
    node.die();
    other.renew().await;
    assert!(work.has_changed().expect("alive"));
}
