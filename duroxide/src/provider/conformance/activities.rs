//! Activities: from scheduling to their end.

use std::sync::Arc;

use super::fixture::*;
use super::list;
use crate::id::{CallId, CommitId};
use crate::provider::*;

list![
    an_activity_is_handed_out_once,
    an_eager_activity_is_owned_from_the_beginning,
    an_outcome_becomes_a_message,
    an_outcome_for_an_old_execution_is_dropped,
    an_activity_is_tried_again,
    an_activity_is_given_back,
    an_activity_is_parked_until_its_instance_is_resumed,
    writes_of_an_activity_are_fenced,
    writes_of_an_activity_are_done_once,
    what_was_given_back_and_taken_again_is_not_given_back_by_the_same_commit,
    a_cancelled_activity_is_told_once,
    activities_fit_names_and_tags,
    groups_have_their_own_limits,
    a_node_whose_clock_is_ahead_holds_no_activity_up,
];

fn outcome(name: &str, attempt: u32) -> Write {
    Write::Outcome { activity: activity_id(name, 1, 1), attempt, message: message("outcome") }
}

fn retry(name: &str, attempt: u32, second: i64) -> Write {
    Write::Retry { activity: activity_id(name, 1, 1), attempt, visible_at: at(second) }
}

async fn an_activity_is_handed_out_once(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let headers = [("a".to_owned(), "b".to_owned())].into();
    schedule(&world, &node, "i", NewActivity { headers, ..new_activity(1, 2) }).await;
    let activities = other.acquire(want(at(3))).await.activities;
    assert_eq!(activities.len(), 1);
    let activity = &activities[0];
    assert_eq!((&activity.id, activity.attempt, activity.crashes), (&activity_id("i", 1, 1), 1, 0));
    assert_eq!(activity.scheduled, EventRow { payload: text("input"), ..event(2, "scheduled") });
    assert_eq!(activity.headers["a"], "b");
    assert!(node.acquire(want(at(3))).await.activities.is_empty());
    assert!(other.acquire(want(at(3))).await.activities.is_empty());
}

async fn an_eager_activity_is_owned_from_the_beginning(world: World) {
    let node = with_activity(&world, "i").await;
    assert!(world.join().await.acquire(want(at(3))).await.activities.is_empty());
    assert!(node.commit(retry("i", 1, 3)).await.is_ok());
}

async fn an_outcome_becomes_a_message(world: World) {
    let node = with_activity(&world, "i").await;
    let done = node.commit(outcome("i", 1)).await.expect("outcome");
    assert_eq!(done.messages, [Placement::Owned(node.lease.epoch)]);
    let loaded = node.acquire(Want { load: vec![id("i")], ..want(at(3)) }).await;
    assert_eq!(data(&loaded.instances[0].messages), ["outcome"]);
    assert!(loaded.activities.is_empty());
}

async fn an_outcome_for_an_old_execution_is_dropped(world: World) {
    let node = world.join().await;
    schedule(&world, &node, "i", NewActivity { detached: true, eager: true, ..new_activity(1, 2) }).await;
    node.turn(ending("i", 1, 2, Then::ContinueAsNew { version: None })).await.expect("continue");
    let message = MessageRow { execution: Some(1), ..message("late") };
    let write = Write::Outcome { activity: activity_id("i", 1, 1), attempt: 1, message };
    let id = CommitId::new();
    let done = node.commit_as(id, write.clone()).await.expect("outcome");
    assert_eq!(done.messages, [Placement::Refused]);
    assert!(node.commit_as(id, write).await.expect("again").repeated);
}

async fn an_activity_is_tried_again(world: World) {
    let node = with_activity(&world, "i").await;
    node.commit(retry("i", 1, 10)).await.expect("retry");
    let early = node.acquire(want(at(9))).await;
    assert!(early.activities.is_empty());
    assert_eq!(early.next_due, Some(at(10)));
    let activities = node.acquire(want(at(10))).await.activities;
    assert_eq!((activities.len(), activities[0].attempt), (1, 2));
    assert_eq!(node.commit(outcome("i", 1)).await, Err(CommitError::Conflict), "that attempt is over");
    assert!(node.commit(outcome("i", 2)).await.is_ok());
}

async fn an_activity_is_given_back(world: World) {
    let node = with_activity(&world, "i").await;
    node.commit(Write::ReleaseActivity { activity: activity_id("i", 1, 1) }).await.expect("release");
    let activities = world.join().await.acquire(want(at(3))).await.activities;
    assert_eq!((activities.len(), activities[0].attempt, activities[0].crashes), (1, 1, 0));
}

async fn an_activity_is_parked_until_its_instance_is_resumed(world: World) {
    let node = with_activity(&world, "i").await;
    let park = Write::Park { activity: activity_id("i", 1, 1), reason: "\"unreadable\"".to_owned() };
    node.commit(park).await.expect("park");
    let record = world.record("i").await;
    assert_eq!(record.suspension.as_deref(), Some("\"unreadable\""));
    assert_eq!(record.status, InstanceStatus::Running, "the rest of it goes on");
    assert!(node.acquire(want(at(9))).await.activities.is_empty());
    let resumed = world.resume("i").await;
    assert_eq!(resumed, Ok(Submitted { owner: Some(node.lease.epoch), execution: 1, written: true, last_found: None }));
    assert_eq!(world.record("i").await.suspension, None);
    assert_eq!(node.acquire(want(at(9))).await.activities.len(), 1);
}

async fn writes_of_an_activity_are_fenced(world: World) {
    let node = with_activity(&world, "i").await;
    let other = world.join().await;
    let activity = || activity_id("i", 1, 1);
    for write in [
        outcome("i", 1),
        retry("i", 1, 9),
        Write::Park { activity: activity(), reason: "\"no\"".to_owned() },
        Write::ReleaseActivity { activity: activity() },
        Write::ReleaseInstance { instance: id("i") },
        outcome("none", 1),
        Write::ReleaseInstance { instance: id("none") },
    ] {
        assert_eq!(other.commit(write.clone()).await, Err(CommitError::Fenced), "{write:?}");
    }
    assert_eq!(node.commit(retry("i", 2, 9)).await, Err(CommitError::Conflict));
    assert_eq!(node.commit(outcome("i", 2)).await, Err(CommitError::Conflict));
    assert!(node.commit(outcome("i", 1)).await.is_ok(), "nothing has happened");
}

async fn writes_of_an_activity_are_done_once(world: World) {
    let activity = || activity_id("i", 1, 1);
    let node = with_activity(&world, "i").await;
    for write in [
        retry("i", 1, 1),
        Write::ReleaseActivity { activity: activity() },
        Write::Park { activity: activity(), reason: "\"no\"".to_owned() },
        outcome("i", 2),
    ] {
        let id = CommitId::new();
        assert!(!node.commit_as(id, write.clone()).await.expect("the first time").repeated, "{write:?}");
        assert!(node.commit_as(id, write.clone()).await.expect("the second time").repeated, "{write:?}");
        world.resume("i").await.expect("resume");
        node.acquire(want(at(9))).await;
    }
    let id = CommitId::new();
    let release = Write::ReleaseInstance { instance: super::fixture::id("i") };
    assert!(!node.commit_as(id, release.clone()).await.expect("the first time").repeated);
    assert!(node.commit_as(id, release).await.expect("the second time").repeated);
}

async fn what_was_given_back_and_taken_again_is_not_given_back_by_the_same_commit(world: World) {
    let node = with_activity(&world, "i").await;
    let activity = activity_id("i", 1, 1);
    let give_back = [
        Write::ReleaseActivity { activity: activity.clone() },
        Write::Park { activity: activity.clone(), reason: "{}".to_owned() },
    ];
    for (attempt, write) in (1..).zip(give_back) {
        let id = CommitId::new();
        assert_eq!(node.commit_as(id, write.clone()).await, Ok(Committed::default()));
        world.resume("i").await.expect("resume");
        assert_eq!(node.acquire(want(at(3))).await.activities.len(), 1);
        node.commit(retry("i", attempt, 3)).await.expect("retry");
        assert_eq!(node.acquire(want(at(3))).await.activities.len(), 1);
        assert!(node.commit_as(id, write).await.expect("again").repeated);
        assert!(node.acquire(want(at(3))).await.activities.is_empty(), "the node has it");
    }
    let (id, write) = (CommitId::new(), Write::ReleaseInstance { instance: id("i") });
    assert_eq!(node.commit_as(id, write.clone()).await, Ok(Committed::default()));
    world.send("i", message("hello")).await.expect("send");
    assert_eq!(node.acquire(want(at(3))).await.instances.len(), 1);
    node.turn(ending("i", 1, 2, Then::Go)).await.expect("turn");
    assert!(node.commit_as(id, write).await.expect("again").repeated);
    assert_eq!(world.record("i").await.owner, Some(node.lease.epoch));
}

async fn a_cancelled_activity_is_told_once(world: World) {
    let (node, runner) = (world.join().await, world.join().await);
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    assert_eq!(runner.acquire(want(at(3))).await.activities.len(), 1);
    let turn = Turn { cancelled_activities: vec![CallId(1), CallId(9)], ..ending("i", 1, 2, Then::Go) };
    node.turn(turn).await.expect("it is no error when one is not there");
    assert_eq!(runner.renew().await, Renewal::Held { cancelled: vec![activity_id("i", 1, 1)] });
    assert_eq!(runner.renew().await, Renewal::Held { cancelled: Vec::new() });
    assert_eq!(runner.commit(outcome("i", 1)).await, Err(CommitError::Fenced));
}

async fn activities_fit_names_and_tags(world: World) {
    let node = world.join().await;
    let tagged = |tag: Option<&str>, name: &str| NewActivity {
        tag: tag.map(str::to_owned),
        name: name.to_owned(),
        ..new_activity(1, 2)
    };
    schedule(&world, &node, "plain", tagged(None, "work")).await;
    schedule(&world, &node, "gpu", tagged(Some("gpu"), "work")).await;
    schedule(&world, &node, "tape", tagged(Some("tape"), "work")).await;
    schedule(&world, &node, "other", tagged(None, "other")).await;
    let tags = |tags: &[&str]| Some(tags.iter().map(|tag| (*tag).to_owned()).collect::<Arc<[String]>>());
    let names = |acquired: Acquired| {
        let mut names: Vec<_> = acquired.activities.into_iter().map(|a| a.id.execution.instance.to_string()).collect();
        names.sort();
        names
    };
    let some = node.acquire(Want { tags: tags(&["gpu", "press"]), ..want(at(3)) }).await;
    assert_eq!(some.next_due, None, "what it may not have is of no interest");
    assert_eq!(names(some), ["gpu", "plain"]);
    assert_eq!(names(node.acquire(Want { tags: tags(&[]), ..want(at(3)) }).await), [""; 0]);
    assert_eq!(names(node.acquire(want(at(3))).await), ["tape"]);
}

async fn groups_have_their_own_limits(world: World) {
    let node = world.join().await;
    for (name, activity) in [("a", "work"), ("b", "work"), ("c", "slow"), ("d", "slow")] {
        schedule(&world, &node, name, NewActivity { name: activity.to_owned(), ..new_activity(1, 2) }).await;
    }
    let group = |name: &str, limit| ActivityGroup { names: Arc::new([name.to_owned()]), limit };
    let two = |a, b| Want { activities: vec![group("work", a), group("slow", b)], ..want(at(3)) };
    let first = node.acquire(two(2, 1)).await;
    assert_eq!(first.activities.len(), 3);
    assert!(first.next_due.is_some_and(|due| due <= at(3)), "there is more");
    let second = node.acquire(two(1, 0)).await;
    assert!(second.activities.is_empty());
    assert_eq!(node.acquire(two(1, 1)).await.activities.len(), 1);
}

async fn a_node_whose_clock_is_ahead_holds_no_activity_up(world: World) {
    const AHEAD: i64 = 3600;
    let (ahead, other) = (world.join().await, world.join().await);
    let new = world.start_owned(&ahead, "i").await;
    let first = Turn {
        events: vec![event(1, "started"), event(2, "scheduled"), event(3, "scheduled")],
        consumed: vec![new.start.id],
        activities: vec![new_activity(1, 2), new_activity(2, 3)],
        time: at(AHEAD),
        ..turn("i", 1, 0)
    };
    ahead.turn(first).await.expect("the first turn");
    let one = vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 1 }];
    let taken = other.acquire(Want { activities: one, ..want(at(3)) }).await;
    assert_eq!((taken.activities.len(), taken.next_due), (1, Some(at(3))), "at once, and there is more");
    let rest = other.acquire(want(at(3))).await;
    assert_eq!((rest.activities.len(), rest.next_due), (1, None));
    // The time of the next attempt stays one, by any clock.
    other.commit(retry("i", 1, 10)).await.expect("retry");
    let early = other.acquire(want(at(9))).await;
    assert_eq!((early.activities.len(), early.next_due), (0, Some(at(10))));
    assert_eq!(other.acquire(want(at(10))).await.activities.len(), 1);
}
