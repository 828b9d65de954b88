//! Nodes with different code: items that a build rejects, and starts for the latest version.

use semver::Version;

use super::fixture::*;
use super::list;
use crate::id::NodeId;
use crate::provider::*;

list![
    rejected_instance_is_left_to_another_member,
    instance_is_suspended_once_all_builds_have_rejected_it,
    suspended_instance_is_resumed_by_each_new_build_once,
    rejected_instance_needs_a_member_with_its_version,
    rejected_instance_is_suspended_when_the_last_build_leaves,
    rejected_instance_is_suspended_when_the_last_build_dies,
    rejected_instance_is_open_to_all_builds_after_progress,
    rejections_before_progress_are_forgotten,
    rejected_start_is_not_left_to_an_outdated_member,
    crash_of_the_last_build_is_counted,
    resumed_instance_is_open_to_all_builds,
    rejected_activity_is_left_to_another_member,
    rejected_activity_is_parked_when_the_last_build_leaves,
    rejected_activity_needs_a_member_that_serves_its_tag,
    parked_activity_is_released_by_another_build,
    resumed_activity_is_open_to_all_builds,
    resumption_opens_parked_activities_only,
    activity_crash_of_the_last_build_is_counted,
    start_without_version_waits_for_the_latest,
    first_turn_without_version_is_refused_if_outdated,
    child_without_version_waits_for_the_latest,
    start_with_version_does_not_wait_for_a_later_one,
];

fn v2() -> Version {
    Version::new(2, 0, 0)
}

/// A node of build `b` that has version 2 of the orchestration, too.
fn newer() -> NodeInfo {
    let mut info = info("b");
    info.handlers.orchestrations.push(("flow".to_owned(), v2()));
    info
}

async fn status(world: &World) -> InstanceStatus {
    world.record("i").await.status
}

/// Claims the instance, and rejects it.
async fn reject(world: &World, node: &Member) {
    assert_eq!(names(&node.acquire(want(at(3))).await), ["i"], "the node may claim it");
    let after = world.record("i").await.last_event.0;
    node.turn(Turn { then: suspended(), ..turn("i", 1, after) }).await.expect("reject");
}

async fn rejected_instance_is_left_to_another_member(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    world.start("i").await;
    reject(&world, &old).await;
    let record = world.record("i").await;
    assert_eq!((record.status, record.suspension, record.owner), (InstanceStatus::Running, None, None));
    assert!(old.acquire(want(at(3))).await.instances.is_empty(), "its build has rejected the instance");
    let twin = world.join().await;
    assert!(twin.acquire(want(at(3))).await.instances.is_empty(), "and so has the build of this node");
    let acquired = new.acquire(want(at(3))).await.instances;
    assert_eq!((acquired.len(), acquired[0].crashes), (1, 0));
    assert_eq!(acquired[0].messages.len(), 1, "nothing is lost");
}

async fn instance_is_suspended_once_all_builds_have_rejected_it(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    world.start("i").await;
    reject(&world, &old).await;
    reject(&world, &new).await;
    let record = world.record("i").await;
    assert_eq!((record.status, record.suspension.as_deref()), (InstanceStatus::Suspended, Some("\"why\"")));
}

async fn suspended_instance_is_resumed_by_each_new_build_once(world: World) {
    world.start("i").await;
    reject(&world, &world.join().await).await;
    world.join().await;
    assert_eq!(status(&world).await, InstanceStatus::Suspended, "a node of the build does not resume it");
    let other = world.join_as(&info("b")).await;
    assert_eq!(status(&world).await, InstanceStatus::Running);
    reject(&world, &other).await;
    world.join_as(&info("b")).await;
    world.join().await;
    assert_eq!(status(&world).await, InstanceStatus::Suspended, "both builds have rejected it");
    world.join_as(&info("c")).await;
    assert_eq!(status(&world).await, InstanceStatus::Running);
}

async fn rejected_instance_needs_a_member_with_its_version(world: World) {
    let mut without = info("b");
    without.handlers.orchestrations = vec![("flow".to_owned(), v2())];
    let (node, _without) = (world.join().await, world.join_as(&without).await);
    world.start_new(NewInstance { version: Some(v1()), ..new_instance("i") }).await;
    reject(&world, &node).await;
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
    world.join_as(&NodeInfo { id: NodeId::new(), ..without }).await;
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
    world.join_as(&info("c")).await;
    assert_eq!(status(&world).await, InstanceStatus::Running);
}

async fn rejected_instance_is_suspended_when_the_last_build_leaves(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    world.start("i").await;
    reject(&world, &old).await;
    new.provider.leave(&new.lease).await.expect("leave");
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
    let new = world.join_as(&info("b")).await;
    assert_eq!(status(&world).await, InstanceStatus::Running, "the build has not rejected it");
    assert_eq!(names(&new.acquire(want(at(3))).await), ["i"]);
}

async fn rejected_instance_is_suspended_when_the_last_build_dies(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    world.start("i").await;
    reject(&world, &old).await;
    assert_eq!(names(&new.acquire(want(at(3))).await), ["i"]);
    new.die();
    assert!(old.holds().await);
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
}

async fn rejected_instance_is_open_to_all_builds_after_progress(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    world.start("i").await;
    reject(&world, &old).await;
    new.acquire(want(at(3))).await;
    new.turn(ending("i", 1, 0, Then::Continue)).await.expect("progress");
    new.provider.leave(&new.lease).await.expect("leave");
    assert_eq!(status(&world).await, InstanceStatus::Running);
    reject(&world, &old).await;
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
}

async fn rejections_before_progress_are_forgotten(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    world.start("i").await;
    reject(&world, &old).await;
    new.acquire(want(at(3))).await;
    new.turn(ending("i", 1, 0, Then::Continue)).await.expect("progress");
    new.turn(Turn { then: suspended(), ..turn("i", 1, 1) }).await.expect("reject");
    assert_eq!(status(&world).await, InstanceStatus::Running, "the other build has not tried the new history");
    reject(&world, &old).await;
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
}

async fn rejected_start_is_not_left_to_an_outdated_member(world: World) {
    let (old, new) = (world.join().await, world.join_as(&newer()).await);
    world.start("i").await;
    assert_eq!(names(&new.acquire(newer_want()).await), ["i"]);
    new.turn(Turn { then: suspended(), version: None, ..turn("i", 1, 0) }).await.expect("reject");
    assert_eq!(status(&world).await, InstanceStatus::Suspended, "the other member may not claim it");
    new.provider.leave(&new.lease).await.expect("leave");
    assert_eq!(status(&world).await, InstanceStatus::Running);
    assert_eq!(names(&old.acquire(want(at(3))).await), ["i"]);
}

async fn crash_of_the_last_build_is_counted(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    world.start("i").await;
    reject(&world, &old).await;
    new.acquire(want(at(3))).await;
    new.die();
    assert!(old.holds().await);
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
    let acquired = world.join_as(&info("b")).await.acquire(want(at(3))).await.instances;
    assert_eq!((acquired.len(), acquired[0].crashes), (1, 1), "the build joins again, and has crashed once");
}

async fn resumed_instance_is_open_to_all_builds(world: World) {
    let node = world.join().await;
    world.start("i").await;
    reject(&world, &node).await;
    world.resume("i").await.expect("resume");
    reject(&world, &node).await;
    assert_eq!(status(&world).await, InstanceStatus::Suspended);
}

/// Starts an instance whose first turn schedules an activity, and rejects it.
async fn reject_activity(world: &World, node: &Member, activity: NewActivity) {
    schedule(world, node, "i", NewActivity { eager: true, ..activity }).await;
    node.commit(park(tenure("i", 1, 0))).await.expect("reject");
}

async fn rejected_activity_is_left_to_another_member(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    reject_activity(&world, &old, new_activity(1, 2)).await;
    assert_eq!(world.record("i").await.suspension, None);
    assert!(old.acquire(want(at(9))).await.activities.is_empty(), "its build has rejected the activity");
    let acquired = new.acquire(want(at(9))).await.activities;
    assert_eq!((acquired.len(), acquired[0].attempt, acquired[0].crashes), (1, 1, 0));
    new.commit(park(tenure_of(&acquired[0]))).await.expect("reject");
    assert_eq!(world.record("i").await.suspension.as_deref(), Some("\"no\""), "both builds have rejected it");
}

async fn rejected_activity_is_parked_when_the_last_build_leaves(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    reject_activity(&world, &old, new_activity(1, 2)).await;
    new.provider.leave(&new.lease).await.expect("leave");
    let record = world.record("i").await;
    assert_eq!((record.status, record.suspension.as_deref()), (InstanceStatus::Suspended, Some("\"no\"")));
    let new = world.join_as(&info("b")).await;
    assert_eq!(world.record("i").await.suspension, None);
    assert_eq!(new.acquire(want(at(9))).await.activities.len(), 1);
}

async fn rejected_activity_needs_a_member_that_serves_its_tag(world: World) {
    let mut without = info("b");
    without.handlers.tags = Some(vec!["cpu".to_owned()]);
    let (node, _without) = (world.join().await, world.join_as(&without).await);
    reject_activity(&world, &node, NewActivity { tag: Some("gpu".to_owned()), ..new_activity(1, 2) }).await;
    assert!(world.record("i").await.suspension.is_some(), "it is parked");
    world.join_as(&info("c")).await;
    assert_eq!(world.record("i").await.suspension, None);
}

async fn parked_activity_is_released_by_another_build(world: World) {
    let node = world.join().await;
    reject_activity(&world, &node, new_activity(1, 2)).await;
    let same = world.join().await;
    assert!(same.acquire(want(at(9))).await.activities.is_empty());
    let other = world.join_as(&info("b")).await;
    assert_eq!(other.acquire(want(at(9))).await.activities.len(), 1);
}

async fn resumed_activity_is_open_to_all_builds(world: World) {
    let node = world.join().await;
    reject_activity(&world, &node, new_activity(1, 2)).await;
    world.resume("i").await.expect("resume");
    assert_eq!(node.acquire(want(at(9))).await.activities.len(), 1);
}

async fn resumption_opens_parked_activities_only(world: World) {
    let mut cpu = info("b");
    cpu.handlers.tags = Some(vec!["cpu".to_owned()]);
    let (node, _cpu) = (world.join().await, world.join_as(&cpu).await);
    let new = world.start_owned(&node, "i").await;
    let tagged =
        |call, tag: &str| NewActivity { tag: Some(tag.to_owned()), eager: true, ..new_activity(call, call + 1) };
    let turn = Turn {
        events: (1..=3).map(|n| event(n, "scheduled")).collect(),
        consumed: vec![new.start.id],
        activities: vec![tagged(1, "gpu"), tagged(2, "cpu")],
        ..turn("i", 1, 0)
    };
    node.turn(turn).await.expect("the first turn");
    node.commit(park(tenure("i", 1, 0))).await.expect("reject");
    node.commit(park(Tenure { activity: activity_id("i", 1, 2), ..tenure("i", 1, 0) })).await.expect("reject");
    assert_eq!(world.record("i").await.suspension.as_deref(), Some("\"no\""), "no other member serves the tag");
    world.resume("i").await.expect("resume");
    let acquired = node.acquire(want(at(9))).await.activities;
    let calls: Vec<_> = acquired.iter().map(|activity| activity.id.call.0).collect();
    assert_eq!(calls, [1], "the other activity is still left to the other build");
}

async fn activity_crash_of_the_last_build_is_counted(world: World) {
    let (old, new) = (world.join().await, world.join_as(&info("b")).await);
    reject_activity(&world, &old, new_activity(1, 2)).await;
    assert_eq!(new.acquire(want(at(9))).await.activities.len(), 1);
    new.die();
    assert!(old.holds().await);
    assert!(world.record("i").await.suspension.is_some(), "it is parked");
    let acquired = world.join_as(&info("b")).await.acquire(want(at(9))).await.activities;
    assert_eq!((acquired.len(), acquired[0].crashes), (1, 1), "the build joins again, and has crashed once");
}

/// The request of a node that has versions 1 and 2.
fn newer_want() -> Want {
    let orchestrations = newer().handlers.orchestrations.into();
    Want { orchestrations, ..want(at(3)) }
}

async fn start_without_version_waits_for_the_latest(world: World) {
    let (old, new) = (world.join().await, world.join_as(&newer()).await);
    let started = world.submit(start(eager(new_instance("i")), IfExists::Error, Some(old.lease))).await;
    assert_eq!(started, Ok(unowned("i")), "the node of the start has an earlier version");
    let acquired = old.acquire(want(at(3))).await;
    assert!(acquired.instances.is_empty());
    assert_eq!(acquired.next_due, None, "the node need not ask again");
    assert_eq!(names(&new.acquire(newer_want()).await), ["i"]);
    new.provider.leave(&new.lease).await.expect("leave");
    assert_eq!(names(&old.acquire(want(at(3))).await), ["i"], "no member has the later version");
}

async fn first_turn_without_version_is_refused_if_outdated(world: World) {
    let (old, new) = (world.join().await, world.join_as(&newer()).await);
    let creating = |name: &str| {
        let new = eager(new_instance(name));
        Turn { creates: Some(Box::new(new)), events: vec![event(1, "started")], ..turn(name, 1, 0) }
    };
    assert_eq!(old.turn(creating("i")).await, Err(CommitError::Conflict));
    assert!(world.find("i").await.is_none());
    new.turn(creating("i")).await.expect("the node has the latest version");
    let mut pinned = creating("j");
    pinned.creates = Some(Box::new(NewInstance { version: Some(v1()), ..eager(new_instance("j")) }));
    old.turn(pinned).await.expect("the version is given");
}

async fn child_without_version_waits_for_the_latest(world: World) {
    let old = world.join().await;
    world.start_owned(&old, "i").await;
    let _new = world.join_as(&newer()).await;
    let child = |name: &str, version| NewChild {
        new: NewInstance { version, ..eager(new_instance(name)) },
        accepted: None,
        if_taken: message("taken"),
    };
    let starts = vec![child("unpinned", None), child("pinned", Some(v1()))];
    let committed = old.turn(Turn { starts, ..ending("i", 1, 0, Then::Continue) }).await.expect("the turn");
    assert_eq!(committed.starts[0].start, Placement::Queued);
    assert_eq!(committed.starts[1].start, old.placed("pinned", 1));
}

async fn start_with_version_does_not_wait_for_a_later_one(world: World) {
    let (old, _new) = (world.join().await, world.join_as(&newer()).await);
    world.start_new(NewInstance { version: Some(v1()), ..new_instance("i") }).await;
    assert_eq!(names(&old.acquire(want(at(3))).await), ["i"]);
}
