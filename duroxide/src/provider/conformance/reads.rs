//! Reads of one instance and of its history.

use super::fixture::*;
use super::list;
use crate::id::EventId;
use crate::provider::*;

list![
    missing_items_are_not_found,
    a_long_history_comes_in_pages,
    the_first_page_comes_with_the_instance,
    work_that_no_node_can_claim_is_shown,
    a_watched_instance_signals_its_end,
];

async fn missing_items_are_not_found(world: World) {
    assert!(world.find("none").await.is_none());
    assert!(world.history("none", 1).await.is_empty());
    world.start("i").await;
    assert!(world.history("i", 7).await.is_empty());
    assert!(world.nodes().await.is_none_or(|nodes| nodes.is_empty()));
}

async fn a_long_history_comes_in_pages(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let events: Vec<_> = (1..=3000).map(|n| event(n, &format!("event {n}"))).collect();
    node.turn(Turn { events: events.clone(), ..turn("i", 1, 0) }).await.expect("turn");
    assert_eq!(world.history("i", 1).await, events);
    let page = world.provider.history(&execution("i", 1), EventId(2999)).await.expect("history");
    assert_eq!((page.events.as_slice(), page.more), (&events[2999..], false));
}

async fn the_first_page_comes_with_the_instance(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let events: Vec<_> = (1..=3000).map(|n| event(n, &format!("event {n}"))).collect();
    node.turn(Turn { events: events.clone(), ..turn("i", 1, 0) }).await.expect("turn");
    node.release("i").await;
    let page = node.acquire(want(at(3))).await.instances.remove(0).history;
    assert_eq!(page.events, events[..page.events.len()]);
    assert_eq!(page.more, page.events.len() < events.len());
}

async fn a_watched_instance_signals_its_end(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let local = world.through(&node);
    let mut changes = node.provider.wakeups().watch(&id("i"));
    let read = local.provider.watch(&id("i")).await.expect("watch").expect("the instance exists");
    assert_eq!(read.status, InstanceStatus::Running);
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    changes.changed().await;
    let read = local.provider.watch(&id("i")).await.expect("watch").expect("the instance exists");
    assert_eq!(read.status, InstanceStatus::Completed);
    assert!(local.provider.watch(&id("none")).await.expect("watch").is_none());
}

async fn work_that_no_node_can_claim_is_shown(world: World) {
    let node = world.join().await;
    let other = NewInstance { name: "other".to_owned(), version: Some(v1()), ..new_instance("o") };
    world.start_new(other).await;
    world.start("fine").await;
    let tagged = NewActivity { tag: Some("gpu".to_owned()), name: "paint".to_owned(), ..new_activity(1, 2) };
    schedule(&world, &node, "p", tagged).await;
    node.acquire(Want { instances: 0, ..want(at(3)) }).await;
    let unclaimed = |what: &str, second| Some(Unclaimed { what: what.to_owned(), since: at(second) });
    let seen = world.through(&node);
    assert_eq!(seen.record("o").await.unclaimed, unclaimed("orchestration other 1.0.0", 1));
    assert_eq!(seen.record("fine").await.unclaimed, None);
    assert_eq!(seen.record("p").await.unclaimed, unclaimed("activity paint with tag gpu", 2));
    let mut painter = info("a");
    painter.handlers.activities.push("paint".to_owned());
    painter.handlers.tags = Some(vec!["cpu".to_owned()]);
    let painter = seen.join_as(&painter).await;
    assert!(seen.record("p").await.unclaimed.is_some());
    painter.provider.leave(&painter.lease).await.expect("leave");
    let mut painter = info("a");
    painter.handlers.activities.push("paint".to_owned());
    let _painter = seen.join_as(&painter).await;
    assert_eq!(seen.record("p").await.unclaimed, None);
}
