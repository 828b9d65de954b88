//! Handing out instances.

use std::sync::Arc;

use semver::Version;

use super::fixture::*;
use super::list;
use crate::id::EventId;
use crate::provider::*;

list![
    an_instance_is_handed_out_once,
    instances_come_oldest_first,
    there_is_more_than_was_asked_for,
    only_what_a_node_can_run_is_handed_out,
    what_nobody_can_run_does_not_stand_in_the_way,
    an_owned_instance_is_loaded,
    a_released_instance_is_handed_out_again,
    an_instance_without_messages_waits,
    a_node_that_has_left_is_given_nothing,
    a_question_that_is_asked_again_has_the_same_answer,
    of_what_was_not_asked_for_nothing_is_said,
    a_clock_that_is_ahead_holds_nothing_up,
    what_is_ready_at_once_and_what_is_due_come_by_age,
];

fn names(acquired: &Acquired) -> Vec<&str> {
    acquired.instances.iter().map(|instance| instance.execution.instance.as_str()).collect()
}

async fn start_at(world: &World, name: &str, second: i64) {
    let mut new = new_instance(name);
    new.start.visible_at = Some(at(second));
    world.start_new(new).await;
}

async fn an_instance_is_handed_out_once(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let new = world.start("i").await;
    let acquired = node.acquire(want(at(3))).await;
    assert_eq!(names(&acquired), ["i"]);
    let instance = &acquired.instances[0];
    assert_eq!((&instance.execution, instance.last_event), (&execution("i", 1), EventId(0)));
    assert_eq!((instance.name.as_str(), &instance.version), ("flow", &None));
    assert_eq!((instance.crashes, instance.suspect, &instance.messages), (0, false, &vec![new.start]));
    assert!(other.acquire(want(at(3))).await.instances.is_empty());
    assert!(node.acquire(want(at(3))).await.instances.is_empty());
    assert_eq!(world.record("i").await.owner, Some(node.lease.epoch));
}

async fn instances_come_oldest_first(world: World) {
    let node = world.join().await;
    for (name, second) in [("b", 4), ("a", 3), ("c", 5)] {
        start_at(&world, name, second).await;
    }
    assert_eq!(names(&node.acquire(want(at(9))).await), ["a", "b", "c"]);
}

async fn there_is_more_than_was_asked_for(world: World) {
    let node = world.join().await;
    for (name, second) in [("a", 3), ("b", 4), ("c", 20)] {
        start_at(&world, name, second).await;
    }
    let first = node.acquire(Want { instances: 1, ..want(at(9)) }).await;
    assert_eq!((names(&first), first.next_due), (vec!["a"], Some(at(4))));
    let second = node.acquire(Want { instances: 1, ..want(at(9)) }).await;
    assert_eq!((names(&second), second.next_due), (vec!["b"], Some(at(20))));
}

async fn only_what_a_node_can_run_is_handed_out(world: World) {
    let node = world.join().await;
    let pinned = |name, version| NewInstance { version: Some(version), ..new_instance(name) };
    world.start_new(pinned("v1", v1())).await;
    world.start_new(pinned("v2", Version::new(2, 0, 0))).await;
    world.start_new(NewInstance { name: "other".to_owned(), ..new_instance("other") }).await;
    let acquired = node.acquire(want(at(3))).await;
    assert_eq!((names(&acquired), acquired.next_due), (vec!["v1"], None));
    let all: Arc<[_]> = [("flow", Version::new(2, 0, 0)), ("other", v1())].map(|(n, v)| (n.to_owned(), v)).into();
    let mut found = node.acquire(Want { orchestrations: all, ..want(at(3)) }).await;
    found.instances.sort_by(|a, b| a.execution.cmp(&b.execution));
    assert_eq!(names(&found), ["other", "v2"]);
}

async fn what_nobody_can_run_does_not_stand_in_the_way(world: World) {
    let node = world.join().await;
    for n in 0..50 {
        world.start_new(NewInstance { name: "unknown".to_owned(), ..new_instance(&format!("u{n}")) }).await;
    }
    start_at(&world, "mine", 2).await;
    let acquired = node.acquire(Want { instances: 1, ..want(at(3)) }).await;
    assert_eq!((names(&acquired), acquired.next_due), (vec!["mine"], None));
}

async fn an_owned_instance_is_loaded(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let new = world.start_owned(&node, "i").await;
    node.turn(Turn { consumed: vec![new.start.id], ..ending("i", 1, 0, Then::Go) }).await.expect("turn");
    let load = || Want { load: vec![id("i"), id("none")], ..want(at(3)) };
    let loaded = node.acquire(load()).await.instances;
    assert_eq!((loaded.len(), loaded[0].last_event, loaded[0].messages.len()), (1, EventId(1), 0));
    assert!(other.acquire(load()).await.instances.is_empty());
}

async fn a_released_instance_is_handed_out_again(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    world.start_owned(&node, "i").await;
    node.release("i").await;
    assert_eq!(node.turn(ending("i", 1, 0, Then::Go)).await, Err(CommitError::Fenced));
    let acquired = other.acquire(want(at(3))).await;
    assert_eq!((names(&acquired), acquired.instances[0].crashes), (vec!["i"], 0));
}

async fn an_instance_without_messages_waits(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    node.turn(Turn { consumed: vec![new.start.id], ..ending("i", 1, 0, Then::Go) }).await.expect("turn");
    node.release("i").await;
    let nothing = node.acquire(want(at(3))).await;
    assert!(nothing.instances.is_empty() && nothing.next_due.is_none());
    let sent = world.send("i", message("wake up")).await;
    assert_eq!(sent, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"]);
}

async fn a_node_that_has_left_is_given_nothing(world: World) {
    let node = world.join().await;
    world.start("i").await;
    node.provider.leave(&node.lease).await.expect("leave");
    let acquired = node.acquire(want(at(3))).await;
    assert!(acquired.instances.is_empty() && acquired.next_due.is_none());
    assert_eq!(world.record("i").await.owner, None);
}

async fn a_question_that_is_asked_again_has_the_same_answer(world: World) {
    let node = world.join().await;
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    world.start("j").await;
    let question = |n| Want { question: Some(n), ..want(at(3)) };
    for _ in 0..3 {
        let answer = node.acquire(question(1)).await;
        assert_eq!((names(&answer), answer.activities.len()), (vec!["j"], 1));
        assert_eq!(answer.activities[0].id, activity_id("i", 1, 1));
    }
    let next = node.acquire(question(2)).await;
    assert_eq!((names(&next), next.activities.len()), (vec![], 0));
    let next = node.acquire(question(2)).await;
    assert_eq!((names(&next), next.activities.len()), (vec![], 0));
    world.start("k").await;
    assert_eq!(names(&node.acquire(question(1)).await), [""; 0], "it comes late");
    let late = node.acquire(question(2)).await;
    assert_eq!(names(&late), [""; 0], "it may come late as well");
    assert!(late.next_due.is_some_and(|due| due <= at(3)), "there may be more");
    assert_eq!(names(&node.acquire(question(3)).await), ["k"]);
}

async fn of_what_was_not_asked_for_nothing_is_said(world: World) {
    let node = world.join().await;
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    world.start("j").await;
    let none = vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 0 }];
    let nothing = Want { instances: 0, activities: none, ..want(at(3)) };
    let answer = node.acquire(nothing).await;
    assert_eq!((names(&answer), answer.activities.len(), answer.next_due), (vec![], 0, None));
}

/// By the clock of whoever sends it, which is an hour ahead.
const AHEAD: i64 = 3600;

async fn a_clock_that_is_ahead_holds_nothing_up(world: World) {
    let node = world.join().await;
    world.start_by(at(AHEAD), new_instance("i")).await;
    // What waits for its time stands before it, however much it is.
    for n in 0..5 {
        start_at(&world, &format!("later-{n}"), 10 + n).await;
    }
    let taken = node.acquire(Want { instances: 2, ..want(at(3)) }).await;
    assert_eq!((names(&taken), taken.next_due), (vec!["i"], Some(at(10))), "a start");
    let waits = |then| Turn { consumed: taken.instances[0].messages.iter().map(|m| m.id).collect(), ..then };
    node.turn(waits(ending("i", 1, 0, Then::Go))).await.expect("turn");
    node.release("i").await;
    world.send_at(at(AHEAD), "i", message("hello")).await.expect("send");
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"], "a message");
    node.release("i").await;
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"], "given back");
    let suspended = Then::Suspend { reason: "{}".to_owned() };
    node.turn(Turn { time: at(AHEAD), ..ending("i", 1, 1, suspended) }).await.expect("suspend");
    world.submit(Submission::Resume { instance: id("i"), time: at(AHEAD) }).await.expect("resume");
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"], "resumed");
    node.die();
    assert_eq!(names(&world.join().await.acquire(want(at(3))).await), ["i"], "left by a dead node");
}

async fn what_is_ready_at_once_and_what_is_due_come_by_age(world: World) {
    let node = world.join().await;
    for (name, second) in [("due 5", 5), ("due 2", 2), ("due 20", 20)] {
        start_at(&world, name, second).await;
    }
    for (name, second) in [("at 3", 3), ("ahead", AHEAD), ("at 1", 1), ("at 4", 4)] {
        world.start_by(at(second), new_instance(name)).await;
    }
    let one_by_one = || Want { instances: 1, ..want(at(9)) };
    for name in ["at 1", "due 2", "at 3", "at 4", "due 5"] {
        let next = node.acquire(one_by_one()).await;
        assert_eq!(names(&next), [name]);
        assert!(next.next_due.is_some_and(|due| due <= at(9)), "there is more");
    }
    let last = node.acquire(one_by_one()).await;
    assert_eq!((names(&last), last.next_due), (vec!["ahead"], Some(at(20))));
    assert!(node.acquire(one_by_one()).await.instances.is_empty());
}
