//! Claims of free instances, and loads of owned ones.

use std::sync::Arc;

use semver::Version;

use super::fixture::*;
use super::list;
use crate::id::{CommitId, EventId};
use crate::provider::*;

list![
    instance_to_be_terminated_is_named_to_all_nodes,
    a_free_instance_is_claimed_once,
    instances_come_oldest_first,
    a_limited_answer_reports_that_more_is_due,
    only_instances_that_the_node_can_run_are_claimed,
    instances_without_code_delay_no_others,
    an_owned_instance_is_loaded_with_its_history,
    a_load_after_a_number_brings_only_later_messages,
    a_load_brings_messages_that_are_due_later,
    a_released_instance_is_claimed_again,
    an_instance_without_messages_waits,
    a_node_that_has_left_claims_nothing,
    kinds_that_were_not_requested_are_not_considered,
    a_sender_with_a_fast_clock_delays_no_instance,
    ready_instances_and_due_ones_come_by_age,
];

async fn start_at(world: &World, name: &str, second: i64) {
    let mut new = new_instance(name);
    new.start.visible_at = Some(at(second));
    world.start_new(new).await;
}

async fn a_free_instance_is_claimed_once(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let new = world.start("i").await;
    let acquired = node.acquire(want(at(3))).await;
    assert_eq!(names(&acquired), ["i"]);
    let instance = &acquired.instances[0];
    assert_eq!((&instance.execution, instance.last_event), (&execution("i", 1), EventId(0)));
    assert_eq!((instance.name.as_str(), &instance.version), ("flow", &None));
    assert_eq!((instance.crashes, instance.suspect, instance.arrivals), (0, false, 1));
    assert_eq!(instance.messages, [MessageRow { number: Some(1), ..new.start }]);
    assert!(instance.history.events.is_empty());
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

async fn a_limited_answer_reports_that_more_is_due(world: World) {
    let node = world.join().await;
    for (name, second) in [("a", 3), ("b", 4), ("c", 20)] {
        start_at(&world, name, second).await;
    }
    let first = node.acquire(Want { instances: 1, ..want(at(9)) }).await;
    assert_eq!((names(&first), first.next_due), (vec!["a"], Some(at(4))));
    let second = node.acquire(Want { instances: 1, ..want(at(9)) }).await;
    assert_eq!((names(&second), second.next_due), (vec!["b"], Some(at(20))));
}

async fn only_instances_that_the_node_can_run_are_claimed(world: World) {
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

async fn instances_without_code_delay_no_others(world: World) {
    let node = world.join().await;
    for n in 0..50 {
        world.start_new(NewInstance { name: "unknown".to_owned(), ..new_instance(&format!("u{n}")) }).await;
    }
    start_at(&world, "mine", 2).await;
    let acquired = node.acquire(Want { instances: 1, ..want(at(3)) }).await;
    assert_eq!((names(&acquired), acquired.next_due), (vec!["mine"], None));
}

async fn an_owned_instance_is_loaded_with_its_history(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let new = world.start_owned(&node, "i").await;
    node.turn(Turn { consumed: vec![new.start.id], ..ending("i", 1, 0, Then::Continue) }).await.expect("turn");
    let load = |name| Load { instance: id(name), heard: None };
    let both = || Want { load: vec![load("i"), load("none")], ..want(at(3)) };
    let loaded = node.acquire(both()).await.instances;
    assert_eq!((loaded.len(), loaded[0].last_event, loaded[0].messages.len()), (1, EventId(1), 0));
    assert_eq!((&loaded[0].version, loaded[0].arrivals, loaded[0].claim), (&Some(v1()), 1, 0));
    let mut history = loaded[0].history.clone();
    if history.more {
        history.events.extend(world.history("i", 1).await.split_off(history.events.len()));
    }
    assert_eq!(history.events, [event(1, "end")]);
    assert!(other.acquire(both()).await.instances.is_empty());
}

async fn a_load_after_a_number_brings_only_later_messages(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, Then::Continue)).await.expect("turn");
    let later = MessageRow { visible_at: Some(at(50)), ..message("timer") };
    for message in [message("two"), later, message("three")] {
        world.send("i", message).await.expect("send");
    }
    let loaded = node.load_after("i", Some(1)).await;
    assert_eq!((data(&loaded.messages), loaded.arrivals), (vec!["two", "three"], 3));
    assert!(loaded.history.events.is_empty(), "the node has the history");
    let loaded = node.load_after("i", Some(2)).await;
    assert_eq!((data(&loaded.messages), loaded.arrivals), (vec!["three"], 3));
    assert_eq!(data(&node.load_after("i", Some(3)).await.messages), [""; 0]);
}

async fn a_load_brings_messages_that_are_due_later(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let timer = |second, data| MessageRow { visible_at: Some(at(second)), ..message(data) };
    let messages = [timer(60, "later"), timer(50, "due"), message("now")];
    let messages = messages.map(|message| Outgoing { message, ..outgoing("i", "") }).to_vec();
    node.turn(Turn { messages, ..ending("i", 1, 0, Then::Continue) }).await.expect("turn");
    assert_eq!(data(&node.load("i").await.messages), ["start", "now", "due", "later"]);
    let early = node.acquire(want(at(3))).await;
    assert_eq!((names(&early), early.next_due), (vec![], None), "the owner itself waits for their times");
    node.release("i").await;
    let claimed = node.acquire(want(at(3))).await;
    assert_eq!(data(&claimed.instances[0].messages), ["start", "now", "due", "later"]);
}

async fn a_released_instance_is_claimed_again(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    world.start_owned(&node, "i").await;
    node.release("i").await;
    assert_eq!(node.turn(ending("i", 1, 0, Then::Continue)).await, Err(CommitError::Fenced));
    let acquired = other.acquire(want(at(3))).await;
    assert_eq!((names(&acquired), acquired.instances[0].crashes), (vec!["i"], 0));
}

async fn an_instance_without_messages_waits(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    node.turn(Turn { consumed: vec![new.start.id], ..ending("i", 1, 0, Then::Continue) }).await.expect("turn");
    node.release("i").await;
    let nothing = node.acquire(want(at(3))).await;
    assert!(nothing.instances.is_empty() && nothing.next_due.is_none());
    assert_eq!(world.send("i", message("wake up")).await, Ok(unowned("i")));
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"]);
}

async fn a_node_that_has_left_claims_nothing(world: World) {
    let node = world.join().await;
    world.start("i").await;
    node.provider.leave(&node.lease).await.expect("leave");
    let acquired = node.acquire(want(at(3))).await;
    assert!(acquired.instances.is_empty() && acquired.next_due.is_none());
    assert_eq!(world.record("i").await.owner, None);
}

async fn kinds_that_were_not_requested_are_not_considered(world: World) {
    let node = world.join().await;
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    world.start("j").await;
    let none = vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 0 }];
    let nothing = Want { instances: 0, activities: none, ..want(at(3)) };
    let answer = node.acquire(nothing).await;
    assert_eq!((names(&answer), answer.activities.len(), answer.next_due), (vec![], 0, None));
}

/// The time by the clock of a sender that is an hour ahead.
const AHEAD: i64 = 3600;

async fn a_sender_with_a_fast_clock_delays_no_instance(world: World) {
    let node = world.join().await;
    world.start_by(at(AHEAD), new_instance("i")).await;
    // By their times these come before the instance, but they are not due.
    for n in 0..5 {
        start_at(&world, &format!("later-{n}"), 10 + n).await;
    }
    let taken = node.acquire(Want { instances: 2, ..want(at(3)) }).await;
    assert_eq!((names(&taken), taken.next_due), (vec!["i"], Some(at(10))), "a start");
    let waits = |then| Turn { consumed: taken.instances[0].messages.iter().map(|m| m.id).collect(), ..then };
    node.turn(waits(ending("i", 1, 0, Then::Continue))).await.expect("turn");
    node.release("i").await;
    world.send_at(at(AHEAD), "i", message("hello")).await.expect("send");
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"], "a message");
    node.release("i").await;
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"], "released");
    node.turn(Turn { time: at(AHEAD), ..ending("i", 1, 1, suspended()) }).await.expect("suspend");
    world.submit(Submission::Resume { instance: id("i"), time: at(AHEAD) }).await.expect("resume");
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"], "resumed");
    node.die();
    assert_eq!(names(&world.join().await.acquire(want(at(3))).await), ["i"], "left by a dead node");
}

async fn ready_instances_and_due_ones_come_by_age(world: World) {
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
        assert!(next.next_due.is_some_and(|due| due <= at(9)), "more is due");
    }
    let last = node.acquire(one_by_one()).await;
    assert_eq!((names(&last), last.next_due), (vec!["ahead"], Some(at(20))));
    assert!(node.acquire(one_by_one()).await.instances.is_empty());
}

async fn instance_to_be_terminated_is_named_to_all_nodes(world: World) {
    let end = |data: &str| MessageRow { lane: Lane::End, ..message(data) };
    let named = async |member: &Member| {
        // No code, no room: the request is for any node.
        let ending = member.acquire(Want::new(at(3))).await.ending;
        ending.into_iter().map(|e| (e.execution.instance.to_string(), e.message.data)).collect::<Vec<_>>()
    };
    let (node, other) = (world.join().await, world.join().await);
    let expected = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "end".to_owned())).collect::<Vec<_>>();
    world.start("queued").await;
    world.start_owned(&node, "owned").await;
    world.start_owned(&node, "suspended").await;
    node.turn(Turn { then: suspended(), ..turn("suspended", 1, 0) }).await.expect("suspend");
    let mut work = other.provider.wakeups().subscribe();
    for name in ["queued", "owned", "suspended"] {
        for sent in [message("before"), end("end"), end("again")] {
            world.through(&other).send(name, sent).await.expect("send");
        }
    }
    assert!(work.has_changed().expect("the provider lives"), "there is work for every node");
    work.mark_unchanged();
    for member in [&node, &other] {
        let mut found = named(member).await;
        found.sort();
        assert_eq!(found, expected(&["queued", "suspended"]), "the owner ends its own instance");
    }
    node.provider.leave(&node.lease).await.expect("leave");
    let mut found = named(&other).await;
    found.sort();
    assert_eq!(found, expected(&["owned", "queued", "suspended"]));
    for name in ["owned", "queued", "suspended"] {
        let end = ending(name, 1, 0, Then::Finish { status: InstanceStatus::Terminated });
        let submission = Submission::Terminate { id: CommitId::new(), turn: Box::new(end) };
        world.submit(submission).await.expect("terminate");
    }
    assert_eq!(named(&other).await, expected(&[]));
}
