//! Activities, from scheduling to their end. Each tenure of an activity ends once.

use std::sync::Arc;

use super::fixture::*;
use super::list;
use crate::id::{CallId, CommitId};
use crate::provider::*;

list![
    a_free_activity_is_claimed_once,
    an_eager_activity_is_owned_from_the_beginning,
    an_outcome_becomes_a_message,
    an_outcome_for_an_old_execution_is_dropped,
    an_activity_is_tried_again,
    an_overdue_activity_is_claimed_before_its_time,
    a_released_activity_is_claimed_again,
    an_activity_is_parked_until_its_instance_is_resumed,
    writes_of_an_activity_are_fenced,
    writes_that_name_another_tenure_conflict,
    a_repeated_write_is_refused,
    a_repeated_write_does_not_touch_a_later_claim,
    a_cancellation_is_repeated_until_it_is_acknowledged,
    a_node_receives_no_cancellation_of_its_own,
    a_cancelled_activity_without_an_owner_is_not_reported,
    activities_fit_names_and_tags,
    groups_have_their_own_limits,
    a_scheduler_with_a_fast_clock_delays_no_activity;
    with_admin:
    instance_with_a_parked_activity_is_listed_as_suspended,
    failed_attempts_are_kept_with_their_execution,
];

async fn a_free_activity_is_claimed_once(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let headers = [("a".to_owned(), "b".to_owned())].into();
    schedule(&world, &node, "i", NewActivity { headers, ..new_activity(1, 2) }).await;
    let activities = other.acquire(want(at(3))).await.activities;
    assert_eq!(activities.len(), 1);
    let activity = &activities[0];
    assert_eq!((tenure_of(activity), activity.crashes), (tenure("i", 1, 1), 0));
    assert_eq!(activity.scheduled, EventRow { payload: text("input"), ..event(2, "scheduled") });
    assert_eq!(activity.headers["a"], "b");
    assert!(node.acquire(want(at(3))).await.activities.is_empty());
    assert!(other.acquire(want(at(3))).await.activities.is_empty());
}

async fn an_eager_activity_is_owned_from_the_beginning(world: World) {
    let node = with_activity(&world, "i").await;
    assert!(world.join().await.acquire(want(at(3))).await.activities.is_empty());
    assert!(node.commit(retry(tenure("i", 1, 0), 3)).await.is_ok());
}

async fn an_outcome_becomes_a_message(world: World) {
    let node = with_activity(&world, "i").await;
    let done = node.commit(outcome(tenure("i", 1, 0))).await.expect("outcome");
    assert_eq!(done.messages, [node.placed("i", 2)]);
    let loaded = node.acquire(Want { load: vec![Load { instance: id("i"), heard: None }], ..want(at(3)) }).await;
    assert_eq!(data(&loaded.instances[0].messages), ["outcome"]);
    assert!(loaded.activities.is_empty());
}

async fn an_outcome_for_an_old_execution_is_dropped(world: World) {
    let node = world.join().await;
    schedule(&world, &node, "i", NewActivity { detached: true, eager: true, ..new_activity(1, 2) }).await;
    node.turn(ending("i", 1, 2, Then::ContinueAsNew { version: None })).await.expect("continue");
    let message = MessageRow { execution: Some(1), ..message("late") };
    let write = Write::Outcome { tenure: tenure("i", 1, 0), message };
    assert_eq!(node.commit(write.clone()).await.expect("outcome").messages, [Placement::Refused]);
    assert_eq!(node.commit(write).await, Err(CommitError::Fenced), "the activity was removed");
}

async fn an_activity_is_tried_again(world: World) {
    let node = with_activity(&world, "i").await;
    node.commit(retry(tenure("i", 1, 0), 10)).await.expect("retry");
    let early = node.acquire(want(at(9))).await;
    assert!(early.activities.is_empty());
    assert_eq!(early.next_due, Some(at(10)));
    let activities = node.acquire(want(at(10))).await.activities;
    assert_eq!((activities.len(), tenure_of(&activities[0])), (1, tenure("i", 2, 1)));
    assert_eq!(node.commit(outcome(tenure("i", 1, 1))).await, Err(CommitError::Conflict), "that attempt is over");
    assert!(node.commit(outcome(tenure("i", 2, 1))).await.is_ok());
}

async fn an_overdue_activity_is_claimed_before_its_time(world: World) {
    let node = with_activity(&world, "i").await;
    schedule(&world, &node, "j", new_activity(1, 2)).await;
    node.commit(retry(tenure("i", 1, 0), 10)).await.expect("retry");
    let overdue = vec![activity_id("i", 1, 1), activity_id("none", 1, 1)];
    let named = Want { overdue, ..want(at(3)) };
    let without_permits = Want { activities: Vec::new(), ..named.clone() };
    assert!(node.acquire(without_permits).await.activities.is_empty());
    let one = vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 1 }];
    let first = node.acquire(Want { activities: one, ..named.clone() }).await;
    let keys: Vec<_> = first.activities.iter().map(tenure_of).collect();
    assert_eq!(keys, [tenure("i", 2, 1)], "before others, and within the limit");
    let second = node.acquire(Want { claim: first.claim, ..named }).await;
    let keys: Vec<_> = second.activities.iter().map(tenure_of).collect();
    assert_eq!(keys, [tenure("j", 1, 2)], "an activity with an owner is not claimed");
}

async fn a_released_activity_is_claimed_again(world: World) {
    let node = with_activity(&world, "i").await;
    node.commit(Write::ReleaseActivity { tenure: tenure("i", 1, 0) }).await.expect("release");
    let activities = world.join().await.acquire(want(at(3))).await.activities;
    assert_eq!((activities.len(), activities[0].attempt, activities[0].crashes), (1, 1, 0));
}

async fn an_activity_is_parked_until_its_instance_is_resumed(world: World) {
    let node = with_activity(&world, "i").await;
    node.commit(park(tenure("i", 1, 0))).await.expect("park");
    let record = world.record("i").await;
    assert_eq!(record.suspension.as_deref(), Some("\"no\""));
    assert_eq!(
        (record.status, record.owner),
        (InstanceStatus::Suspended, Some(node.lease.epoch)),
        "it keeps its owner"
    );
    assert!(node.acquire(want(at(9))).await.activities.is_empty());
    assert_eq!(world.resume("i").await, Ok(node.owned("i")));
    let record = world.record("i").await;
    assert_eq!((record.status, record.suspension), (InstanceStatus::Running, None));
    assert_eq!(node.acquire(want(at(9))).await.activities.len(), 1);
}

async fn instance_with_a_parked_activity_is_listed_as_suspended(world: World) {
    let list = async |statuses: &[InstanceStatus], limit| {
        let filter = Filter { statuses: statuses.to_vec(), ..Filter::default() };
        let (mut page, mut found) = (Page::new(limit), Vec::new());
        loop {
            let part = world.admin().list(&filter, &page).await.expect("list");
            found
                .extend(part.instances.into_iter().map(|r| (r.execution.instance.to_string(), r.status, r.suspension)));
            page.after = part.next;
            if page.after.is_none() {
                return found;
            }
        }
    };
    let node = with_activity(&world, "parked").await;
    let second = NewActivity { eager: true, ..new_activity(2, 3) };
    node.turn(Turn { activities: vec![second], ..ending("parked", 1, 2, Then::Continue) }).await.expect("turn");
    world.start_owned(&node, "running").await;
    world.start("queued").await;
    world.start_owned(&node, "suspended").await;
    node.turn(Turn { then: suspended(), ..turn("suspended", 1, 0) }).await.expect("suspend");
    for call in [1, 2] {
        node.commit(park(Tenure { activity: activity_id("parked", 1, call), ..tenure("parked", 1, 0) }))
            .await
            .expect("park");
    }
    use InstanceStatus::{Completed, Running, Suspended};
    let name = |name: &str, status, reason: Option<&str>| (name.to_owned(), status, reason.map(str::to_owned));
    let stopped = [name("suspended", Suspended, Some("\"why\"")), name("parked", Suspended, Some("\"no\""))];
    let others = [name("queued", Running, None), name("running", Running, None)];
    let all = [&stopped[..1], &others, &stopped[1..]].concat();
    for limit in [1, 10] {
        assert_eq!(list(&[Suspended], limit).await, stopped);
        assert_eq!(list(&[Running], limit).await, others);
        assert_eq!(list(&[Suspended, Running], limit).await, all);
        assert_eq!(list(&[Suspended, Completed], limit).await, stopped);
        assert_eq!(list(&[Running, Completed], limit).await, others);
        assert_eq!(list(&[], limit).await, all);
    }
    world.resume("parked").await.expect("resume");
    assert_eq!(list(&[Suspended], 10).await, stopped[..1]);
    assert_eq!(list(&[Running], 10).await.last(), Some(&name("parked", Running, None)));
}

async fn failed_attempts_are_kept_with_their_execution(world: World) {
    let node = with_activity(&world, "i").await;
    let activities = async || world.admin().activities(&id("i")).await.expect("activities");
    let numbers = |found: &InstanceActivities| found.failed.iter().map(|failed| failed.attempt).collect::<Vec<_>>();
    let mut owned = tenure("i", 1, 0);
    for attempt in 1..=25 {
        let failed = retry(owned.clone(), 3);
        node.commit(failed.clone()).await.expect("retry");
        assert!(node.commit(failed).await.is_err(), "a repetition is refused");
        owned = tenure_of(&node.acquire(want(at(3))).await.activities[0]);
        assert_eq!(owned.attempt, attempt + 1);
    }
    let found = activities().await.expect("exists");
    assert_eq!(numbers(&found), (1..=3).chain(6..=25).collect::<Vec<_>>(), "the first 3 and the last 20");
    let AttemptRecord { execution: number, call, node: by, next_at, ref failed, .. } = found.failed[1];
    assert_eq!((number, call, by, next_at), (1, CallId(1), node.lease.epoch, at(3)));
    assert_eq!(*failed, FailedAttempt { began: at(2), ended: at(3), error: "no 2".to_owned() });
    let ActivityRecord { ref name, attempt, ready, owner, parked, .. } = found.open[0];
    assert_eq!((name.as_str(), attempt, ready, owner, parked), ("work", 26, None, Some(node.lease.epoch), false));
    node.commit(retry(owned, 9)).await.expect("retry");
    assert_eq!(activities().await.expect("exists").open[0].ready, Some(Ready::At(at(9))));

    node.turn(ending("i", 1, 2, completed())).await.expect("finish");
    let found = activities().await.expect("exists");
    assert!(found.open.is_empty());
    assert_eq!(numbers(&found).last(), Some(&26));
    world.delete("i").await;
    assert_eq!(activities().await, None);
    world.start_by(at(9), another("i")).await;
    assert_eq!(activities().await, Some(InstanceActivities::default()));
}

/// Returns the writes that end a tenure of activity 1.
fn endings(of: &Tenure) -> [Write; 4] {
    [retry(of.clone(), 3), park(of.clone()), Write::ReleaseActivity { tenure: of.clone() }, outcome(of.clone())]
}

async fn writes_of_an_activity_are_fenced(world: World) {
    let node = with_activity(&world, "i").await;
    let other = world.join().await;
    let release = |name| Write::ReleaseInstance { execution: execution(name, 1), claim: 0 };
    let none = [outcome(tenure("none", 1, 0)), release("i"), release("none")];
    for write in endings(&tenure("i", 1, 0)).into_iter().chain(none) {
        assert_eq!(other.commit(write.clone()).await, Err(CommitError::Fenced), "{write:?}");
    }
    assert!(node.commit(outcome(tenure("i", 1, 0))).await.is_ok(), "the refused writes had no effect");
}

async fn writes_that_name_another_tenure_conflict(world: World) {
    let node = with_activity(&world, "i").await;
    let release = Write::ReleaseInstance { execution: execution("i", 1), claim: 1 };
    let others = [tenure("i", 2, 0), tenure("i", 1, 1)];
    for write in others.iter().flat_map(endings).chain([release]) {
        assert_eq!(node.commit(write.clone()).await, Err(CommitError::Conflict), "{write:?}");
    }
    assert_eq!(world.record("i").await.owner, Some(node.lease.epoch));
    assert!(node.commit(outcome(tenure("i", 1, 0))).await.is_ok(), "the refused writes had no effect");
}

async fn a_repeated_write_is_refused(world: World) {
    let node = with_activity(&world, "i").await;
    let mut current = tenure("i", 1, 0);
    for n in 0..4 {
        let write = endings(&current)[n].clone();
        let id = CommitId::new();
        assert!(node.commit_as(id, write.clone()).await.is_ok(), "{write:?}");
        assert_eq!(node.commit_as(id, write.clone()).await, Err(CommitError::Fenced), "{write:?}");
        world.resume("i").await.expect("resume");
        if n < 3 {
            current = tenure_of(&node.acquire(want(at(3))).await.activities[0]);
        }
    }
    assert_eq!(data(&node.load("i").await.messages), ["outcome"], "one outcome");
    let (id, release) = (CommitId::new(), Write::ReleaseInstance { execution: execution("i", 1), claim: 0 });
    assert_eq!(node.commit_as(id, release.clone()).await, Ok(Committed::default()));
    assert_eq!(node.commit_as(id, release).await, Err(CommitError::Fenced));
}

async fn a_repeated_write_does_not_touch_a_later_claim(world: World) {
    let node = with_activity(&world, "i").await;
    let mut current = tenure("i", 1, 0);
    // An outcome removes the activity, which no node can claim again.
    for n in 0..3 {
        let (id, write) = (CommitId::new(), endings(&current)[n].clone());
        assert_eq!(node.commit_as(id, write.clone()).await, Ok(Committed::default()));
        world.resume("i").await.expect("resume");
        current = tenure_of(&node.acquire(want(at(3))).await.activities[0]);
        assert_eq!(node.commit_as(id, write.clone()).await, Err(CommitError::Conflict), "{write:?}");
        assert!(node.acquire(want(at(3))).await.activities.is_empty(), "the node still owns it");
    }
    assert!(node.commit(outcome(current)).await.is_ok());
    let (id, release) = (CommitId::new(), Write::ReleaseInstance { execution: execution("i", 1), claim: 0 });
    assert_eq!(node.commit_as(id, release.clone()).await, Ok(Committed::default()));
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"]);
    node.turn(ending("i", 1, 2, Then::Continue)).await.expect("turn");
    assert_eq!(node.commit_as(id, release).await, Err(CommitError::Conflict));
    assert_eq!(world.record("i").await.owner, Some(node.lease.epoch));
}

async fn a_cancellation_is_repeated_until_it_is_acknowledged(world: World) {
    let (node, runner) = (world.join().await, world.join().await);
    for name in ["i", "j"] {
        schedule(&world, &node, name, new_activity(1, 2)).await;
    }
    assert_eq!(runner.acquire(want(at(3))).await.activities.len(), 2);
    assert!(runner.mail().await.cancelled.is_empty());
    let cancel = |name| Turn { cancelled_activities: vec![CallId(1), CallId(9)], ..ending(name, 1, 2, Then::Continue) };
    node.turn(cancel("i")).await.expect("a call without an activity is not an error");
    let of = |name| activity_id(name, 1, 1);
    for _ in 0..3 {
        assert!(runner.holds().await);
        assert_eq!(runner.mail().await.cancelled, [of("i")]);
    }
    assert_eq!(runner.commit(outcome(tenure("i", 1, 1))).await, Err(CommitError::Fenced));
    node.turn(cancel("j")).await.expect("cancel");
    let heard = |name| Want { cancelled: vec![of(name)], ..Want::new(at(3)) };
    assert_eq!(runner.acquire(heard("i")).await.cancelled, [of("j")]);
    assert_eq!(runner.acquire(heard("i")).await.cancelled, [of("j")]);
    assert!(runner.acquire(heard("j")).await.cancelled.is_empty());
    assert!(node.mail().await.cancelled.is_empty());
}

async fn a_node_receives_no_cancellation_of_its_own(world: World) {
    let node = world.join().await;
    for (name, then) in [("a", Then::Continue), ("b", completed()), ("c", Then::ContinueAsNew { version: None })] {
        schedule(&world, &node, name, NewActivity { eager: true, ..new_activity(1, 2) }).await;
        let cancelled = if name == "a" { vec![CallId(1)] } else { Vec::new() };
        node.turn(Turn { cancelled_activities: cancelled, ..ending(name, 1, 2, then) }).await.expect("turn");
        assert_eq!(node.commit(outcome(tenure(name, 1, 0))).await, Err(CommitError::Fenced), "{name}");
    }
    assert!(node.mail().await.cancelled.is_empty());
}

async fn a_cancelled_activity_without_an_owner_is_not_reported(world: World) {
    let (node, runner) = (world.join().await, world.join().await);
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    let activity = runner.acquire(want(at(3))).await.activities.remove(0);
    runner.commit(retry(tenure_of(&activity), 9)).await.expect("retry");
    node.turn(Turn { cancelled_activities: vec![CallId(1)], ..ending("i", 1, 2, Then::Continue) }).await.expect("turn");
    assert!(runner.mail().await.cancelled.is_empty());
    assert!(runner.acquire(want(at(9))).await.activities.is_empty());
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
    assert_eq!(some.next_due, None, "activities with a tag that the node does not serve do not count");
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
    assert!(first.next_due.is_some_and(|due| due <= at(3)), "more is due");
    let second = node.acquire(two(1, 0)).await;
    assert!(second.activities.is_empty());
    assert_eq!(node.acquire(two(1, 1)).await.activities.len(), 1);
}

async fn a_scheduler_with_a_fast_clock_delays_no_activity(world: World) {
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
    assert_eq!((taken.activities.len(), taken.next_due), (1, Some(at(3))), "at once, and more is due");
    let rest = other.acquire(want(at(3))).await;
    assert_eq!((rest.activities.len(), rest.next_due), (1, None));
    // The time of the next attempt counts, although the scheduler's clock is ahead of it.
    other.commit(retry(tenure_of(&taken.activities[0]), 10)).await.expect("retry");
    let early = other.acquire(want(at(9))).await;
    assert_eq!((early.activities.len(), early.next_due), (0, Some(at(10))));
    assert_eq!(other.acquire(want(at(10))).await.activities.len(), 1);
}
