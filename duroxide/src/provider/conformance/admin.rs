//! Reads for people, deleting and pruning.

use std::collections::BTreeSet;

use super::fixture::*;
use super::list;
use crate::id::EventId;
use crate::message::Lane;
use crate::provider::*;

list![
    what_does_not_exist_is_not_found,
    a_long_history_comes_in_pages,
    lists_are_filtered,
    lists_come_in_stable_pages,
    what_nobody_can_take_is_shown,
    only_finished_instances_are_deleted,
    an_id_that_was_removed_goes_on_counting,
    only_old_finished_instances_are_pruned,
    continued_executions_of_live_instances_are_pruned,
];

async fn what_does_not_exist_is_not_found(world: World) {
    assert!(world.find("none").await.is_none());
    assert!(world.history("none", 1).await.is_empty());
    world.start("i").await;
    assert!(world.history("i", 7).await.is_empty());
    assert!(world.provider.nodes().await.expect("nodes").is_empty());
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

async fn list(world: &World, filter: &Filter) -> BTreeSet<String> {
    let page = world.provider.list(filter, &Page { limit: 100, after: None }).await.expect("list");
    assert_eq!(page.next, None);
    page.instances.into_iter().map(|record| record.execution.instance.to_string()).collect()
}

async fn lists_are_filtered(world: World) {
    let node = world.join().await;
    let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let parent = crate::history::Parent { execution: execution("a", 1), call: crate::id::CallId(1) };
    world.start_owned(&node, "a").await;
    world.start_new(NewInstance { labels: label("team", "blue"), ..new_instance("b") }).await;
    world.start_new(NewInstance { labels: label("team", "red"), parent: Some(parent), ..new_instance("c") }).await;
    world.start_new(NewInstance { name: "other".to_owned(), ..new_instance("d") }).await;
    node.turn(ending("a", 1, 0, completed())).await.expect("finish");
    let late = Submission::Start {
        new: new_instance("e"),
        if_exists: IfExists::Error,
        lease: None,
        time: at(50),
        again: false,
    };
    world.submit(late).await.expect("start");
    let by = Filter::default;
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(list(&world, &by()).await, set(&["a", "b", "c", "d", "e"]));
    assert_eq!(list(&world, &Filter { name: Some("other".to_owned()), ..by() }).await, set(&["d"]));
    assert_eq!(list(&world, &Filter { statuses: vec![InstanceStatus::Completed], ..by() }).await, set(&["a"]));
    let several = vec![InstanceStatus::Completed, InstanceStatus::Suspended];
    assert_eq!(list(&world, &Filter { statuses: several, ..by() }).await, set(&["a"]));
    assert_eq!(list(&world, &Filter { labels: label("team", "blue"), ..by() }).await, set(&["b"]));
    assert_eq!(list(&world, &Filter { labels: label("blue", "team"), ..by() }).await, set(&[]));
    assert_eq!(list(&world, &Filter { parent: Some(id("a")), ..by() }).await, set(&["c"]));
    assert_eq!(list(&world, &Filter { created_from: Some(at(50)), ..by() }).await, set(&["e"]));
    assert_eq!(
        list(&world, &Filter { created_before: Some(at(50)), name: Some("flow".to_owned()), ..by() }).await,
        set(&["a", "b", "c"])
    );
}

async fn lists_come_in_stable_pages(world: World) {
    let started = |name: &str, second| {
        let new = new_instance(name);
        Submission::Start { new, if_exists: IfExists::Error, lease: None, time: at(second), again: false }
    };
    for (name, second) in [("a", 1), ("b", 2), ("d", 3), ("c", 3), ("e", 4)] {
        world.submit(started(name, second)).await.expect("start");
    }
    let mut names = Vec::new();
    let mut page = Page { limit: 2, after: None };
    loop {
        let part = world.provider.list(&Filter::default(), &page).await.expect("list");
        names.extend(part.instances.iter().map(|record| record.execution.instance.to_string()));
        world.submit(started(&format!("new {}", names.len()), 9)).await.expect("start");
        match part.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(names, ["e", "c", "d", "b", "a"], "newest first; what comes meanwhile shifts nothing");
}

async fn what_nobody_can_take_is_shown(world: World) {
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

async fn only_finished_instances_are_deleted(world: World) {
    let node = with_activity(&world, "done").await;
    world.start("live").await;
    let parting = NewActivity { detached: true, eager: true, ..new_activity(2, 3) };
    node.turn(Turn { activities: vec![parting], ..ending("done", 1, 2, completed()) }).await.expect("finish");
    node.renew().await;
    let results = world.provider.delete(&[id("done"), id("live"), id("none")]).await.expect("delete");
    let expected = [Ok(()), Err(DeleteError::Live(InstanceStatus::Running)), Err(DeleteError::NotFound)];
    assert_eq!(results, expected);
    assert!(world.find("done").await.is_none() && world.find("live").await.is_some());
    assert!(world.history("done", 1).await.is_empty());
    assert_eq!(node.renew().await, Renewal::Held { cancelled: vec![activity_id("done", 1, 2)] });
    world.submit(start(new_instance("done"), IfExists::Error, None)).await.expect("start");
    assert_eq!(world.record("done").await.last_event, EventId(0));
}

async fn an_id_that_was_removed_goes_on_counting(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    assert_eq!(world.provider.delete(&[id("i")]).await.expect("delete"), [Ok(())]);
    // Its first turn does not know how far it was.
    let eager = || NewInstance { eager: true, ..new_instance("i") };
    let first_turn = Turn { creates: Some(Box::new(eager())), ..ending("i", 1, 0, completed()) };
    assert_eq!(node.turn(first_turn).await, Err(CommitError::Conflict));
    let again = world.submit(start(eager(), IfExists::Error, Some(node.lease))).await.expect("start");
    assert_eq!(again.execution, 2);
    node.turn(ending("i", 2, 0, completed())).await.expect("finish");
    assert_eq!(world.provider.prune(&Filter::default(), at(9), 10).await.expect("prune"), 1);
    world.start_owned(&node, "parent").await;
    let child = NewChild { new: eager(), accepted: None, otherwise: message("taken") };
    node.turn(Turn { starts: vec![child], ..ending("parent", 1, 0, Then::Go) }).await.expect("turn");
    assert_eq!(world.record("i").await.execution, execution("i", 3));
    assert_eq!(node.turn(ending("i", 3, 0, completed())).await, Ok(Committed::default()));
}

async fn only_old_finished_instances_are_pruned(world: World) {
    let node = world.join().await;
    for (name, second) in [("old", 10), ("older", 9), ("new", 30)] {
        world.start_owned(&node, name).await;
        node.turn(Turn { time: at(second), ..ending(name, 1, 0, completed()) }).await.expect("finish");
    }
    world.start_owned(&node, "live").await;
    node.turn(Turn { time: at(9), ..ending("live", 1, 0, Then::Go) }).await.expect("turn");
    let prune = async |limit| world.provider.prune(&Filter::default(), at(20), limit).await.expect("prune");
    assert_eq!(prune(1).await, 1);
    assert!(world.find("older").await.is_none() && world.find("old").await.is_some(), "oldest first");
    assert_eq!(prune(10).await, 1);
    assert_eq!(prune(10).await, 0);
    assert_eq!(list(&world, &Filter::default()).await, ["live", "new"].map(str::to_owned).into());
    let other = Filter { name: Some("other".to_owned()), ..Filter::default() };
    assert_eq!(world.provider.prune(&other, at(100), 10).await.expect("prune"), 0);
}

async fn continued_executions_of_live_instances_are_pruned(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let large = text(&"large".repeat(1000));
    for number in 1..=3 {
        let mut next = outgoing("i", "again");
        next.message.lane = Lane::Start;
        let mut turn = ending("i", number, 0, Then::ContinueAsNew { version: None });
        turn.events[0].payload = large.clone();
        turn.time = at(10 * i64::try_from(number).expect("small"));
        turn.messages = vec![next];
        node.turn(turn).await.expect("continue");
    }
    node.turn(Turn { time: at(40), ..ending("i", 4, 0, Then::Go) }).await.expect("turn");
    assert_eq!(world.provider.prune(&Filter::default(), at(25), 10).await.expect("prune"), 2);
    let mut left = Vec::new();
    for number in 1..=4 {
        left.push(world.history("i", number).await.len());
    }
    assert_eq!(left, [0, 0, 1, 1]);
    assert_eq!(world.history("i", 3).await[0].payload, large, "what another execution still holds is kept");
    assert_eq!(world.provider.prune(&Filter::default(), at(1000), 10).await.expect("prune"), 1);
    assert_eq!(world.history("i", 4).await.len(), 1, "the current execution is never removed");
    node.turn(Turn { time: at(50), ..ending("i", 4, 1, completed()) }).await.expect("finish");
    assert_eq!(world.provider.prune(&Filter::default(), at(1000), 10).await.expect("prune"), 1);
    assert!(world.find("i").await.is_none());
}
