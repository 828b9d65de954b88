//! Instances that a client pauses, and delayed work that it wakes.

use super::fixture::*;
use super::list;
use crate::clock::Timestamp;
use crate::id::{CallId, CommitId};
use crate::provider::*;

list![
    a_paused_instance_is_taken_from_its_owner,
    messages_and_outcomes_of_a_paused_instance_wait,
    a_pause_ends_at_its_time,
    a_pause_is_replaced_by_a_later_one,
    a_change_of_the_members_does_not_end_a_pause,
    a_paused_instance_is_open_to_all_builds_afterwards,
    a_repeated_pause_spares_a_resumed_instance,
    a_paused_instance_is_in_no_quarantine_afterwards,
    a_paused_instance_is_terminated,
    a_pause_of_no_live_instance_is_refused,
    a_message_that_is_dropped_does_not_end_a_pause,
    a_pause_and_its_end_are_signalled,
    a_woken_activity_is_due_at_once,
    a_woken_call_leaves_the_others,
    a_woken_start_is_due_at_once,
    a_woken_start_reaches_its_owner,
    timers_are_not_woken,
];

fn pause(name: &str, until: Option<i64>) -> SuspendRequest {
    let reason = "\"held\"".to_owned();
    let cause = "DUR0010: migration".to_owned();
    SuspendRequest { id: CommitId::new(), instance: id(name), reason, cause, until: until.map(at), time: at(3) }
}

async fn suspend(world: &World, name: &str, until: Option<i64>) {
    assert_eq!(world.submit(Submission::Suspend(pause(name, until))).await, Ok(unowned(name)));
}

async fn wake(world: &World, name: &str, call: Option<u64>) -> Submitted {
    let call = call.map(CallId);
    let request = WakeRequest { id: CommitId::new(), instance: id(name), call, time: at(4) };
    world.submit(Submission::Wake(request)).await.expect("wake")
}

async fn state(world: &World, name: &str) -> (InstanceStatus, Option<String>) {
    let record = world.record(name).await;
    (record.status, record.suspension)
}

fn held() -> (InstanceStatus, Option<String>) {
    (InstanceStatus::Suspended, Some("\"held\"".to_owned()))
}

const RUNNING: (InstanceStatus, Option<String>) = (InstanceStatus::Running, None);

async fn a_paused_instance_is_taken_from_its_owner(world: World) {
    let node = with_activity(&world, "i").await;
    suspend(&world, "i", None).await;
    assert_eq!(state(&world, "i").await, held());
    assert_eq!(world.record("i").await.owner, None);
    assert_eq!(node.turn(ending("i", 1, 2, completed())).await, Err(CommitError::Fenced));
    assert!(node.acquire(want(at(9))).await.instances.is_empty());
    assert_eq!(world.resume("i").await, Ok(unowned("i")));
    assert_eq!(state(&world, "i").await, RUNNING);
}

async fn messages_and_outcomes_of_a_paused_instance_wait(world: World) {
    let node = with_activity(&world, "i").await;
    suspend(&world, "i", None).await;
    assert_eq!(world.send("i", message("event")).await, Ok(unowned("i")));
    let done = node.commit(outcome(tenure("i", 1, 0))).await.expect("an activity continues");
    assert_eq!(done.messages, [Placement::Queued]);
    let acquired = node.acquire(want(at(9))).await;
    assert_eq!((acquired.instances.len(), acquired.next_due), (0, None));
    world.resume("i").await.expect("resume");
    let acquired = node.acquire(want(at(9))).await;
    assert_eq!(data(&find(&acquired, "i").messages), ["event", "outcome"]);
    assert!(node.turn(ending("i", 1, 2, completed())).await.is_ok());
}

async fn a_pause_ends_at_its_time(world: World) {
    let node = world.join().await;
    world.start("begun").await;
    schedule(&world, &node, "idle", NewActivity { eager: true, ..new_activity(1, 2) }).await;
    suspend(&world, "begun", Some(10)).await;
    suspend(&world, "idle", Some(12)).await;
    let early = node.acquire(want(at(9))).await;
    assert_eq!((early.instances.len(), early.next_due), (0, Some(at(10))));
    assert_eq!(state(&world, "begun").await, held());
    let acquired = node.acquire(want(at(10))).await;
    assert_eq!((names(&acquired), acquired.next_due), (vec!["begun"], Some(at(12))));
    assert_eq!(data(&acquired.instances[0].messages), ["start"]);
    assert_eq!(state(&world, "begun").await, RUNNING);
    let acquired = node.acquire(want(at(12))).await;
    assert_eq!(names(&acquired), ["idle"], "also without a message");
    assert_eq!(world.record("idle").await.owner, Some(node.lease.epoch));
    assert!(node.turn(ending("idle", 1, 2, completed())).await.is_ok());
}

async fn a_pause_is_replaced_by_a_later_one(world: World) {
    let node = world.join().await;
    world.start("i").await;
    suspend(&world, "i", Some(10)).await;
    suspend(&world, "i", Some(20)).await;
    assert_eq!(node.acquire(want(at(19))).await.next_due, Some(at(20)));
    suspend(&world, "i", None).await;
    let acquired = node.acquire(want(at(30))).await;
    assert_eq!((acquired.instances.len(), acquired.next_due), (0, None));
    assert_eq!(state(&world, "i").await, held());
}

async fn a_change_of_the_members_does_not_end_a_pause(world: World) {
    let node = world.join().await;
    for name in ["rejected", "running"] {
        world.start_owned(&node, name).await;
    }
    node.turn(Turn { then: suspended(), ..turn("rejected", 1, 0) }).await.expect("reject");
    for name in ["rejected", "running"] {
        suspend(&world, name, Some(20)).await;
    }
    let other = world.join_as(&info("b")).await;
    node.provider.leave(&node.lease).await.expect("leave");
    for name in ["rejected", "running"] {
        assert_eq!(state(&world, name).await, held());
    }
    assert!(other.acquire(want(at(19))).await.instances.is_empty());
}

async fn a_paused_instance_is_open_to_all_builds_afterwards(world: World) {
    let node = world.join().await;
    for (name, until) in [("resumed", None), ("ended", Some(10))] {
        world.start(name).await;
        node.acquire(want(at(3))).await;
        node.turn(Turn { then: suspended(), ..turn(name, 1, 0) }).await.expect("reject");
        suspend(&world, name, until).await;
    }
    world.resume("resumed").await.expect("resume");
    let mut acquired = names(&node.acquire(want(at(10))).await).iter().map(ToString::to_string).collect::<Vec<_>>();
    acquired.sort_unstable();
    assert_eq!(acquired, ["ended", "resumed"], "its own build has rejected them before");
    node.turn(Turn { then: suspended(), ..turn("ended", 1, 0) }).await.expect("reject");
    assert_eq!(state(&world, "ended").await, (InstanceStatus::Suspended, Some("\"why\"".to_owned())));
}

async fn a_repeated_pause_spares_a_resumed_instance(world: World) {
    world.start("i").await;
    let request = Submission::Suspend(pause("i", None));
    for _ in 0..2 {
        assert_eq!(world.submit(request.clone()).await, Ok(unowned("i")));
    }
    world.resume("i").await.expect("resume");
    assert_eq!(world.submit(request).await, Ok(unowned("i")), "it was carried out before");
    assert_eq!(state(&world, "i").await, RUNNING);
}

async fn a_paused_instance_is_in_no_quarantine_afterwards(world: World) {
    world.start("i").await;
    crash_often(&world).await;
    let node = world.join().await;
    assert!(node.acquire(want(at(3))).await.instances.is_empty(), "it is in quarantine");
    suspend(&world, "i", Some(5)).await;
    world.start("innocent").await;
    let acquired = node.acquire(Want { alone: true, ..want(at(5)) }).await;
    let crashes = |name: &str| find(&acquired, name).crashes;
    assert_eq!((acquired.instances.len(), crashes("i"), crashes("innocent")), (2, 0, 0));
}

async fn a_paused_instance_is_terminated(world: World) {
    let node = with_activity(&world, "i").await;
    suspend(&world, "i", Some(10)).await;
    let request = MessageRow { lane: Lane::End, ..message("end") };
    world.send("i", request).await.expect("send");
    assert_eq!(node.acquire(want(at(4))).await.ending.len(), 1, "any node carries out the request");
    let end = ending("i", 1, 2, Then::Finish { status: InstanceStatus::Terminated });
    let submission = Submission::Terminate { id: CommitId::new(), turn: Box::new(end) };
    assert_eq!(world.submit(submission).await, Ok(unowned("i")));
    assert_eq!(state(&world, "i").await, (InstanceStatus::Terminated, None));
    let acquired = node.acquire(want(at(20))).await;
    assert_eq!((acquired.instances.len(), acquired.next_due), (0, None));
}

async fn a_pause_of_no_live_instance_is_refused(world: World) {
    let none = world.submit(Submission::Suspend(pause("none", None))).await;
    assert_eq!(none, Err(SubmitError::NotFound));
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    let finished = world.submit(Submission::Suspend(pause("i", None))).await;
    assert_eq!(finished, Err(SubmitError::Finished(InstanceStatus::Completed)));
    let request = WakeRequest { id: CommitId::new(), instance: id("i"), call: None, time: at(4) };
    let woken = world.submit(Submission::Wake(request)).await;
    assert_eq!(woken, Err(SubmitError::Finished(InstanceStatus::Completed)));
}

async fn a_message_that_is_dropped_does_not_end_a_pause(world: World) {
    let node = world.join().await;
    world.start("i").await;
    suspend(&world, "i", Some(10)).await;
    let event = message("event");
    world.send("i", event.clone()).await.expect("send");
    let dropped = world.submit(Submission::Drop { instance: id("i"), message: event.id }).await;
    assert_eq!(dropped, Ok(unowned("i")));
    assert_eq!(node.acquire(want(at(9))).await.next_due, Some(at(10)));
}

async fn a_pause_and_its_end_are_signalled(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let local = world.through(&node);
    let (mut watch, mut work) = (node.provider.wakeups().watch(&id("i")), node.provider.wakeups().subscribe());
    work.mark_unchanged();
    suspend(&local, "i", Some(10)).await;
    watch.changed().await;
    assert!(work.has_changed().expect("alive"), "a node has to learn when the pause ends");
    node.acquire(want(at(10))).await;
    watch.changed().await;
}

async fn a_woken_activity_is_due_at_once(world: World) {
    let node = with_activity(&world, "i").await;
    node.commit(retry(tenure("i", 1, 0), 100)).await.expect("retry");
    assert_eq!(node.acquire(want(at(3))).await.next_due, Some(at(100)));
    let mut work = node.provider.wakeups().subscribe();
    work.mark_unchanged();
    assert_eq!(wake(&world.through(&node), "i", None).await, node.owned("i"));
    assert!(work.has_changed().expect("alive"));
    // The clock of the node is behind that of the client.
    let activities = node.acquire(want(at(3))).await.activities;
    assert_eq!(activities.iter().map(tenure_of).collect::<Vec<_>>(), [tenure("i", 2, 1)]);
    let again = wake(&world, "i", None).await;
    assert!(!again.written, "nothing waits for a later time");
}

async fn a_woken_call_leaves_the_others(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let events = vec![event(1, "started"), event(2, "one"), event(3, "two")];
    let activities = [(1, 2), (2, 3)].map(|(call, at)| NewActivity { eager: true, ..new_activity(call, at) }).to_vec();
    let first = Turn { events, consumed: vec![new.start.id], activities, ..turn("i", 1, 0) };
    node.turn(first).await.expect("turn");
    for call in 1..=2 {
        let tenure = Tenure { activity: activity_id("i", 1, call), attempt: 1, claim: 0 };
        node.commit(retry(tenure, 100)).await.expect("retry");
    }
    assert!(wake(&world, "i", Some(2)).await.written);
    let acquired = node.acquire(want(at(5))).await;
    let keys: Vec<_> = acquired.activities.iter().map(|activity| activity.id.clone()).collect();
    assert_eq!((keys, acquired.next_due), (vec![activity_id("i", 1, 2)], Some(at(100))));
    assert!(!wake(&world, "i", Some(7)).await.written);
}

fn delayed(name: &str, second: i64) -> NewInstance {
    let new = new_instance(name);
    NewInstance { start: MessageRow { visible_at: Some(at(second)), ..new.start }, ..new }
}

async fn a_woken_start_is_due_at_once(world: World) {
    let node = world.join().await;
    world.start_new(delayed("i", 100)).await;
    assert_eq!(node.acquire(want(at(5))).await.next_due, Some(at(100)));
    assert_eq!(wake(&world, "i", None).await, unowned("i"));
    let acquired = node.acquire(want(at(5))).await;
    assert_eq!(acquired.instances[0].messages[0].visible_at, Some(at(4)));
    assert!(!wake(&world, "i", None).await.written);
}

async fn a_woken_start_reaches_its_owner(world: World) {
    let node = world.join().await;
    let started = world.submit(start(eager(delayed("i", 100)), IfExists::Error, Some(node.lease))).await;
    assert_eq!(started, Ok(node.owned("i")));
    assert_eq!(names(&node.mail().await), [""; 0]);
    assert_eq!(wake(&world, "i", None).await, node.owned("i"));
    let mail = node.mail().await;
    assert_eq!((names(&mail), mail.instances[0].arrivals), (vec!["i"], 1));
    let start = &mail.instances[0].messages[0];
    assert_eq!((start.visible_at, start.number), (Some(at(4)), Some(1)));
}

async fn timers_are_not_woken(world: World) {
    let node = with_activity(&world, "i").await;
    let timer = MessageRow {
        execution: Some(1),
        call: Some(CallId(2)),
        visible_at: Some(Timestamp::from_micros(100_000_000)),
        ..message("timer")
    };
    let out = Outgoing { to: id("i"), identity: None, message: timer };
    node.turn(Turn { messages: vec![out], ..ending("i", 1, 2, Then::Continue) }).await.expect("turn");
    assert!(!wake(&world, "i", None).await.written);
    assert_eq!(node.load("i").await.messages[0].visible_at, Some(at(100)));
}
