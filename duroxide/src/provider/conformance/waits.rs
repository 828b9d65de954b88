//! The calls that instances wait for, and the causes of their failures: recorded, searched and counted.

use std::collections::BTreeSet;

use super::admin::{counted, groups, list as found};
use super::fixture::*;
use super::list;
use crate::error::ErrorCode;
use crate::history::{AwaitedKind, Waits, WaitsFilter};
use crate::id::CallId;
use crate::provider::*;

list![with_admin:
    waits_last_until_the_next_turn,
    causes_last_as_long_as_what_they_explain,
    a_detached_activity_leaves_the_cause_of_its_failed_instance,
    instances_are_found_and_counted_by_their_waits,
    instances_stuck_by_one_cause_are_one_group,
    instances_are_found_by_the_code_of_their_suspension,
    activity_shows_its_rejection_only_while_it_is_parked,
    instances_are_found_by_their_last_change,
];

fn waits(text: &str, since: i64, until: Option<i64>) -> Option<Waits> {
    Some(Waits { text: text.to_owned(), since: at(since), until: until.map(at) })
}

fn cause(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns the recorded waits of an instance, as it is read alone and in a list.
async fn recorded(world: &World, name: &str) -> Option<Waits> {
    let alone = world.record(name).await;
    let filter = Filter { id_prefix: Some(name.to_owned()), ..Filter::default() };
    let page = world.admin().list(&filter, &Page::new(1)).await.expect("list");
    assert_eq!((&page.instances[0].waits, &page.instances[0].cause), (&alone.waits, &alone.cause));
    alone.waits
}

async fn waits_last_until_the_next_turn(world: World) {
    let node = world.join().await;
    let new = new_instance("born");
    let first = Turn {
        creates: Some(Box::new(new.clone())),
        events: vec![event(1, "started")],
        waits: waits("a:work", 2, Some(9)),
        ..turn_of(&new, turn("born", 1, 0))
    };
    node.turn(first).await.expect("create");
    assert_eq!(recorded(&world, "born").await, waits("a:work", 2, Some(9)), "the first turn records it");

    world.start_owned(&node, "i").await;
    assert_eq!(recorded(&world, "i").await, None);
    let mut after = 0;
    for expected in [waits("a*37", 1, None), waits("e:Approval", 2, Some(70)), None, waits("t", 2, Some(80))] {
        node.turn(Turn { waits: expected.clone(), ..ending("i", 1, after, Then::Continue) }).await.expect("turn");
        after += 1;
        assert_eq!(recorded(&world, "i").await, expected);
    }
    node.turn(Turn { waits: None, ..ending("i", 1, after, suspended()) }).await.expect("suspend");
    assert_eq!(recorded(&world, "i").await, waits("t", 2, Some(80)), "a suspended instance keeps it");
    let resume = Submission::Resume { instance: id("i"), time: at(5) };
    world.provider.submit(vec![resume]).await.expect("resume").pop().expect("an answer").expect("resumed");
    assert_eq!(recorded(&world, "i").await, waits("t", 2, Some(80)));

    world.start_owned(&node, "again").await;
    node.turn(Turn { waits: waits("t", 2, None), ..ending("again", 1, 0, Then::Continue) }).await.expect("turn");
    let next = Then::ContinueAsNew { version: None };
    node.turn(Turn { waits: waits("t", 2, None), ..ending("again", 1, 1, next) }).await.expect("continue as new");
    assert_eq!(recorded(&world, "again").await, None);
    node.turn(Turn { waits: waits("t", 2, None), ..ending("again", 2, 0, Then::Continue) }).await.expect("turn");
    node.turn(Turn { waits: waits("t", 2, None), ..ending("again", 2, 1, completed()) }).await.expect("finish");
    assert_eq!(recorded(&world, "again").await, None, "a finished instance waits for nothing");
}

async fn causes_last_as_long_as_what_they_explain(world: World) {
    let node = world.join().await;
    for name in ["failed", "suspended", "terminated", "goes on"] {
        world.start_owned(&node, name).await;
    }
    let failed = Then::Finish { status: InstanceStatus::Failed };
    node.turn(Turn { cause: cause("gateway #"), ..ending("failed", 1, 0, failed) }).await.expect("finish");
    assert_eq!(world.record("failed").await.cause, cause("gateway #"));
    node.turn(Turn { cause: cause("gateway #"), ..ending("goes on", 1, 0, Then::Continue) }).await.expect("turn");
    assert_eq!(world.record("goes on").await.cause, None, "only an end and a suspension have one");
    for name in ["suspended", "terminated"] {
        node.turn(Turn { cause: cause("DUR0001: no"), ..ending(name, 1, 0, suspended()) }).await.expect("suspend");
        assert_eq!(world.record(name).await.cause, cause("DUR0001: no"));
    }
    let resume = Submission::Resume { instance: id("suspended"), time: at(5) };
    let terminated = Then::Finish { status: InstanceStatus::Terminated };
    let end = Box::new(ending("terminated", 1, 1, terminated));
    let end = Submission::Terminate { id: crate::id::CommitId::new(), turn: end };
    let done = world.provider.submit(vec![resume, end]).await.expect("submit");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(world.record("suspended").await.cause, None, "a resume removes it");
    assert_eq!(world.record("terminated").await.cause, None);
}

async fn a_detached_activity_leaves_the_cause_of_its_failed_instance(world: World) {
    let node = world.join().await;
    let failed = async |name: &str| {
        world.start_owned(&node, name).await;
        let activities = vec![NewActivity { detached: true, eager: true, ..new_activity(1, 1) }];
        let failed = Then::Finish { status: InstanceStatus::Failed };
        node.turn(Turn { activities, cause: cause("gateway #"), ..ending(name, 1, 0, failed) }).await.expect("finish");
    };
    let writes = [outcome(tenure("outcome", 1, 0)), retry(tenure("retry", 1, 0), 4), park(tenure("park", 1, 0))];
    for (name, write) in ["outcome", "retry", "park"].into_iter().zip(writes) {
        failed(name).await;
        node.commit(write).await.expect("a write of its activity");
        assert_eq!(world.record(name).await.cause, cause("gateway #"), "{name}");
    }
    world.resume("park").await.expect("resume");
    assert_eq!(world.record("park").await.cause, cause("gateway #"), "its activity runs again");
    // Another build can run the activity.
    world.join_as(&info("b")).await;
    failed("left").await;
    node.commit(park(tenure("left", 1, 0))).await.expect("park");
    assert_eq!(world.record("left").await.cause, cause("gateway #"), "its activity is left to another build");
}

/// Schedules activities 1 to `n` of an instance, which the node runs at once.
async fn run_activities(world: &World, node: &Member, name: &str, n: u64) {
    world.start_owned(node, name).await;
    let activities = (1..=n).map(|call| NewActivity { eager: true, ..new_activity(call, call) }).collect();
    let events = (1..=n).map(|n| event(n, "scheduled")).collect();
    let waits = waits(&format!("a*{n}"), 2, None);
    node.turn(Turn { activities, events, waits, ..turn(name, 1, 0) }).await.expect("turn");
}

fn tenure_of_call(name: &str, call: u64) -> Tenure {
    Tenure { activity: activity_id(name, 1, call), attempt: 1, claim: 0 }
}

fn failing(name: &str, call: u64, text: &str) -> Write {
    match retry(tenure_of_call(name, call), 70) {
        Write::Retry { tenure, visible_at, failed, .. } => {
            Write::Retry { tenure, visible_at, failed, cause: cause(text) }
        }
        other => other,
    }
}

async fn instances_are_found_and_counted_by_their_waits(world: World) {
    let node = world.join().await;
    for (name, text) in [
        ("approved", None),
        ("x", Some("e:Approval")),
        ("y", Some("e:Approval")),
        ("z", Some("e*2")),
        ("other", Some("e:Approvals")),
        ("work", Some("a:Approval")),
        ("sleeps", Some("t")),
        ("mixed", Some("*3")),
    ] {
        world.start_owned(&node, name).await;
        let waits = text.and_then(|text| waits(text, 2, None));
        node.turn(Turn { waits, ..ending(name, 1, 0, Then::Continue) }).await.expect("turn");
    }
    world.start("not begun").await;
    node.turn(ending("y", 1, 1, suspended())).await.expect("suspend");
    let by = |waits: WaitsFilter| Filter { waits: Some(waits), ..Filter::default() };
    assert_eq!(found(&world, &by(WaitsFilter::event("Approval"))).await, set(&["x", "y"]));
    assert_eq!(found(&world, &by(AwaitedKind::Event.into())).await, set(&["x", "y", "z", "other"]));
    assert_eq!(found(&world, &by(AwaitedKind::Timer.into())).await, set(&["sleeps"]));
    assert_eq!(found(&world, &by(AwaitedKind::Mixed.into())).await, set(&["mixed"]));
    assert_eq!(found(&world, &by(WaitsFilter::child("Approval"))).await, set(&[]));
    let running = Filter { statuses: vec![InstanceStatus::Running], ..by(WaitsFilter::event("Approval")) };
    assert_eq!(found(&world, &running).await, set(&["x"]));
    let all = vec![InstanceStatus::Completed, InstanceStatus::Suspended];
    let ended = Filter { statuses: all, ..by(WaitsFilter::event("Approval")) };
    assert_eq!(found(&world, &ended).await, set(&["y"]));
    let counts = groups(&world, Subject::Instances, &by(AwaitedKind::Event.into()), &[Dimension::Waits]).await;
    let expected = [counted("e*2", 1, 1, None), counted("e:Approval", 2, 1, None), counted("e:Approvals", 1, 1, None)];
    assert_eq!(counts, expected);
    let none = groups(&world, Subject::Instances, &Filter::default(), &[Dimension::Waits]).await;
    assert!(none.contains(&counted("-", 2, 1, 1)), "{none:?}");
}

async fn instances_stuck_by_one_cause_are_one_group(world: World) {
    let node = world.join().await;
    for name in ["a", "b", "c", "calm"] {
        run_activities(&world, &node, name, 3).await;
    }
    for (name, call) in [("a", 2), ("a", 3), ("b", 1)] {
        node.commit(failing(name, call, "gateway #")).await.expect("retry");
    }
    node.commit(failing("a", 1, "oom")).await.expect("retry");
    node.commit(failing("c", 2, "gateway #")).await.expect("retry");
    // An activity keeps the cause of its last attempt while the next one runs.
    world.start_owned(&node, "failed").await;
    let failed = Then::Finish { status: InstanceStatus::Failed };
    node.turn(Turn { cause: cause("gateway #"), ..ending("failed", 1, 0, failed) }).await.expect("finish");
    let by = |text: &str| Filter { cause: cause(text), ..Filter::default() };
    assert_eq!(found(&world, &by("gateway #")).await, set(&["a", "b", "c", "failed"]));
    assert_eq!(found(&world, &by("oom")).await, set(&["a"]));
    assert_eq!(found(&world, &by("gateway")).await, set(&[]));
    let causes = [Dimension::Cause];
    let live = Filter { statuses: vec![InstanceStatus::Running, InstanceStatus::Suspended], ..Filter::default() };
    let instances = groups(&world, Subject::Instances, &live, &causes).await;
    let expected = [counted("-", 1, 1, None), counted("gateway #", 2, 1, None), counted("oom", 1, 1, None)];
    assert_eq!(instances, expected, "each instance is in one group");
    let all = groups(&world, Subject::Instances, &by("gateway #"), &causes).await;
    assert_eq!(all, [counted("gateway #", 3, 1, None), counted("oom", 1, 1, None)]);
    let retrying = groups(&world, Subject::Activities, &Filter::default(), &[Dimension::Name, Dimension::Cause]).await;
    let expected =
        [counted("work -", 7, None, None), counted("work gateway #", 4, None, 70), counted("work oom", 1, None, 70)];
    assert_eq!(retrying, expected);
    let read = world.admin().activities(&id("a")).await.expect("read").expect("exists");
    let shown: Vec<_> = read.open.iter().map(|activity| activity.cause.as_deref()).collect();
    assert_eq!(shown, [Some("oom"), Some("gateway #"), Some("gateway #")]);
    node.turn(Turn { cancelled_activities: vec![CallId(1)], ..ending("a", 1, 3, Then::Continue) }).await.expect("turn");
    let left = groups(&world, Subject::Instances, &by("oom"), &causes).await;
    assert_eq!(left, [], "the cause ends with the activity");
}

async fn instances_are_found_by_the_code_of_their_suspension(world: World) {
    let node = world.join().await;
    for (name, text) in [("one", "DUR0001: call # has changed"), ("bare", "DUR0001"), ("two", "DUR0007: crash")] {
        world.start_owned(&node, name).await;
        node.turn(Turn { cause: cause(text), ..ending(name, 1, 0, suspended()) }).await.expect("suspend");
    }
    world.start_owned(&node, "failed").await;
    let failed = Then::Finish { status: InstanceStatus::Failed };
    node.turn(Turn { cause: cause("DUR0001: says a user"), ..ending("failed", 1, 0, failed) }).await.expect("finish");
    run_activities(&world, &node, "parked", 2).await;
    node.commit(park(tenure_of_call("parked", 2))).await.expect("park");
    let by = |code| Filter { suspension: Some(code), ..Filter::default() };
    assert_eq!(found(&world, &by(ErrorCode::Nondeterminism)).await, set(&["one", "bare"]));
    assert_eq!(found(&world, &by(ErrorCode::CrashLoop)).await, set(&["two", "parked"]));
    assert_eq!(found(&world, &by(ErrorCode::TurnStuck)).await, set(&[]));
    let codes = groups(&world, Subject::Instances, &Filter::default(), &[Dimension::Code]).await;
    let codes: Vec<_> = codes.iter().map(|(key, count, ..)| (key.as_str(), *count)).collect();
    assert_eq!(codes, [("-", 1), ("DUR0001", 2), ("DUR0007", 2)]);
    for name in ["one", "parked"] {
        let resume = Submission::Resume { instance: id(name), time: at(5) };
        world.provider.submit(vec![resume]).await.expect("resume").pop().expect("an answer").expect("resumed");
    }
    assert_eq!(found(&world, &by(ErrorCode::Nondeterminism)).await, set(&["bare"]));
    assert_eq!(found(&world, &by(ErrorCode::CrashLoop)).await, set(&["two"]));
    let read = world.admin().activities(&id("parked")).await.expect("read").expect("exists");
    assert!(read.open.iter().all(|activity| activity.cause.is_none()), "{read:?}");
}

/// Returns the state and the cause of the activity, and the code of the suspension of its instance.
async fn shown(world: &World) -> [String; 2] {
    let activity = groups(world, Subject::Activities, &Filter::default(), &[Dimension::State, Dimension::Cause]).await;
    let code = groups(world, Subject::Instances, &Filter::default(), &[Dimension::Code]).await;
    let [(activity, ..)] = &activity[..] else { panic!("one activity: {activity:?}") };
    let record = world.admin().activities(&id("i")).await.expect("read").expect("exists").open.remove(0);
    assert!(activity.ends_with(record.cause.as_deref().unwrap_or("-")), "{activity}, but alone {record:?}");
    [activity.clone(), code[0].0.clone()]
}

/// An activity whose attempt has failed, and which a build has rejected, has two causes.
async fn activity_shows_its_rejection_only_while_it_is_parked(world: World) {
    let parked = ["parked DUR0007: no", "DUR0007"];
    let node = with_activity(&world, "i").await;
    node.commit(retry(tenure("i", 1, 0), 4)).await.expect("retry");
    assert_eq!(shown(&world).await, ["retrying no #", "-"]);
    let claim = async |node: &Member| tenure_of(&node.acquire(want(at(70))).await.activities[0]);
    node.commit(park(claim(&node).await)).await.expect("park");
    assert_eq!(shown(&world).await, parked);

    let other = world.join_as(&info("b")).await;
    assert_eq!(shown(&world).await, ["retrying no #", "-"], "it waits for an attempt by the other build");
    other.provider.leave(&other.lease).await.expect("leave");
    assert_eq!(shown(&world).await, parked);

    let other = world.join_as(&info("b")).await;
    let Write::Retry { tenure, visible_at, failed, .. } = retry(claim(&other).await, 5) else { unreachable!() };
    other.commit(Write::Retry { tenure, visible_at, failed, cause: cause("oom") }).await.expect("retry");
    assert_eq!(shown(&world).await, ["retrying oom", "-"]);
    other.provider.leave(&other.lease).await.expect("leave");
    assert_eq!(shown(&world).await, parked, "the rejection parks it again, not the error");
    let by = |text: &str| Filter { cause: cause(text), ..Filter::default() };
    assert_eq!(found(&world, &by("DUR0007: no")).await, set(&["i"]));
    assert_eq!(found(&world, &by("oom")).await, set(&[]));

    world.resume("i").await.expect("resume");
    assert_eq!(shown(&world).await, ["retrying oom", "-"], "a resume forgets the rejection, not the error");
    node.commit(park(claim(&node).await)).await.expect("park");
    assert_eq!(shown(&world).await, parked);
    world.resume("i").await.expect("resume");
    let failing = retry(claim(&node).await, 6);
    node.commit(failing).await.expect("retry");
    assert_eq!(shown(&world).await, ["retrying no #", "-"]);
}

async fn instances_are_found_by_their_last_change(world: World) {
    let node = world.join().await;
    for (name, second) in [("a", 40), ("b", 50), ("c", 60)] {
        world.start_owned(&node, name).await;
        node.turn(Turn { time: at(second), ..ending(name, 1, 0, Then::Continue) }).await.expect("turn");
    }
    node.turn(Turn { time: at(70), ..ending("a", 1, 1, completed()) }).await.expect("finish");
    let between =
        |from, before| Filter { updated_from: Some(at(from)), updated_before: Some(at(before)), ..Filter::default() };
    assert_eq!(found(&world, &between(50, 60)).await, set(&["b"]));
    assert_eq!(found(&world, &between(50, 61)).await, set(&["b", "c"]));
    assert_eq!(found(&world, &between(70, 71)).await, set(&["a"]));
    assert_eq!(found(&world, &between(71, 99)).await, set(&[]));
}
