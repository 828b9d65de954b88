//! Executions that begin with a given history.

use super::fixture::*;
use super::list;
use crate::history::Waits;
use crate::id::{CallId, CommitId, EventId, ExecutionId};
use crate::provider::*;

list!(
    graft_continues_an_instance_and_fences_its_owner,
    graft_on_another_state_changes_nothing,
    graft_revives_a_finished_instance,
    repeated_graft_is_answered_as_done,
    copy_has_the_rows_of_its_original,
    copy_of_a_paused_instance_resumes_at_its_end,
    graft_ends_a_pause,
    copy_under_a_taken_id_is_refused,
);

fn next(name: &str, number: u64, last: u64) -> NextExecution {
    NextExecution {
        execution: execution(name, number),
        last_event: EventId(last),
        consumed: Vec::new(),
        cancelled_activities: Vec::new(),
    }
}

fn graft(target: GraftTarget) -> Graft {
    Graft {
        id: CommitId::new(),
        target,
        version: Some(v1()),
        history: Vec::new(),
        activities: Vec::new(),
        messages: Vec::new(),
        starts: Vec::new(),
        outgoing: Vec::new(),
        time: at(4),
    }
}

fn stored(row: MessageRow) -> StoredMessage {
    StoredMessage { row, stored_at: at(3), by_client: false }
}

fn activity(execution: u64, call: u64, scheduled: u64) -> StoredActivity {
    StoredActivity {
        execution,
        activity: new_activity(call, scheduled),
        attempt: 3,
        ready: Ready::At(at(4)),
        rejected: None,
        cause: None,
        other_cause: None,
        rejected_by: Vec::new(),
        parked: false,
    }
}

async fn submit(world: &World, graft: Graft) -> Result<Submitted, SubmitError> {
    world.submit(Submission::Graft(Box::new(graft))).await
}

async fn graft_continues_an_instance_and_fences_its_owner(world: World) {
    let node = with_activity(&world, "a").await;
    world.start("other").await;
    let scheduled = EventRow { payload: text("input"), ..event(2, "scheduled") };
    let timer = MessageRow { execution: Some(2), call: Some(CallId(2)), visible_at: Some(at(9)), ..message("timer") };
    let carried = MessageRow { lane: Lane::Carried, ..message("carried") };
    world.send("a", message("unread")).await.expect("send");
    world.send("a", MessageRow { execution: Some(1), ..message("of the old execution") }).await.expect("send");
    let graft = Graft {
        history: vec![event(1, "started"), scheduled.clone()],
        activities: vec![activity(2, 1, 2)],
        messages: vec![stored(timer), stored(carried)],
        starts: vec![NewChild { new: new_instance("child"), accepted: None, if_taken: message("taken") }],
        outgoing: vec![outgoing("other", "hello")],
        ..graft(GraftTarget::Next(next("a", 1, 2)))
    };
    assert_eq!(submit(&world, graft).await, Ok(unowned("a")));
    let record = world.record("a").await;
    assert_eq!((record.execution, record.last_event, record.owner), (execution("a", 2), EventId(2), None));
    assert_eq!(world.history("a", 1).await.len(), 2);
    assert_eq!(world.history("a", 2).await, [event(1, "started"), scheduled.clone()]);
    // The owner learns it, and can no longer write.
    assert_eq!(node.mail().await.cancelled, [activity_id("a", 1, 1)]);
    assert_eq!(node.commit(outcome(tenure("a", 1, 0))).await, Err(CommitError::Fenced));
    assert_eq!(node.turn(turn("a", 1, 2)).await, Err(CommitError::Fenced));
    let acquired = node.acquire(want(at(10))).await;
    assert_eq!(data(&find(&acquired, "a").messages), ["carried", "unread", "timer"]);
    assert_eq!(data(&find(&acquired, "other").messages), ["start", "hello"]);
    assert_eq!(names(&acquired).iter().filter(|name| **name == "child").count(), 1);
    let [again] = &acquired.activities[..] else { panic!("{:?}", acquired.activities) };
    assert_eq!((&again.id, again.attempt, &again.scheduled), (&activity_id("a", 2, 1), 3, &scheduled));
    node.turn(Turn { events: vec![event(3, "goes on")], ..turn("a", 2, 2) }).await.expect("the next turn");
}

async fn graft_on_another_state_changes_nothing(world: World) {
    let node = with_activity(&world, "a").await;
    let wrong = [
        NextExecution { last_event: EventId(1), ..next("a", 1, 2) },
        next("a", 2, 2),
        NextExecution { execution: ExecutionId { identity: identity("b"), ..execution("a", 1) }, ..next("a", 1, 2) },
        NextExecution { consumed: vec![message("unknown").id], ..next("a", 1, 2) },
    ];
    for next in wrong {
        let graft = Graft { history: vec![event(1, "started")], ..graft(GraftTarget::Next(next)) };
        assert_eq!(submit(&world, graft).await, Err(SubmitError::Conflict));
    }
    assert_eq!(submit(&world, graft(GraftTarget::Next(next("none", 1, 0)))).await, Err(SubmitError::NotFound));
    assert_eq!(world.record("a").await.execution, execution("a", 1));
    node.commit(outcome(tenure("a", 1, 0))).await.expect("the node still owns its activity");
}

async fn graft_revives_a_finished_instance(world: World) {
    let node = with_activity(&world, "a").await;
    node.turn(ending("a", 1, 2, completed())).await.expect("the end");
    let wrong = NextExecution { consumed: vec![message("unknown").id], ..next("a", 1, 3) };
    assert_eq!(submit(&world, graft(GraftTarget::Next(wrong))).await, Err(SubmitError::Conflict));
    assert_eq!(world.record("a").await.status, InstanceStatus::Completed);
    let graft = Graft {
        history: vec![event(1, "started")],
        messages: vec![stored(message("carried"))],
        ..graft(GraftTarget::Next(next("a", 1, 3)))
    };
    let entry = AuditEntry::new(at(4), "ana", "reset").instance(Some(&id("a")));
    let audited =
        Submission::Audited { entry: Box::new(entry), submission: Box::new(Submission::Graft(Box::new(graft))) };
    assert_eq!(world.submit(audited).await, Ok(unowned("a")));
    let record = world.record("a").await;
    assert_eq!((record.status, record.finished_at), (InstanceStatus::Running, None));
    let acquired = node.acquire(want(at(10))).await;
    let found = find(&acquired, "a");
    assert_eq!((&found.execution, data(&found.messages)), (&execution("a", 2), vec!["carried"]));
    let turn = Turn { consumed: vec![found.messages[0].id], ..ending("a", 2, 1, completed()) };
    node.turn(turn).await.expect("another end");
    assert_eq!(world.record("a").await.status, InstanceStatus::Completed);
}

async fn repeated_graft_is_answered_as_done(world: World) {
    let node = with_activity(&world, "a").await;
    let graft = Graft { history: vec![event(1, "started")], ..graft(GraftTarget::Next(next("a", 1, 2))) };
    for _ in 0..2 {
        assert_eq!(submit(&world, graft.clone()).await, Ok(unowned("a")));
    }
    assert_eq!(world.record("a").await.execution, execution("a", 2));
    drop(node);
}

fn waits() -> Option<Waits> {
    Some(Waits { text: "e:Approval".to_owned(), since: at(2), until: Some(at(9)) })
}

/// Returns a copy of an instance under another id.
fn copied(name: &str) -> CopiedInstance {
    let attempt = AttemptRecord {
        execution: 2,
        call: CallId(1),
        attempt: 2,
        node: crate::id::Epoch(7),
        next_at: at(5),
        failed: FailedAttempt { began: at(3), ended: at(4), error: "no".to_owned() },
    };
    CopiedInstance {
        new: NewInstance { labels: [("k".to_owned(), "v".to_owned())].into(), ..new_instance(name) },
        execution: 2,
        state: InstanceState {
            earlier: vec![EarlierExecution { number: 1, continued_at: at(2), history: vec![event(1, "before")] }],
            attempts: vec![attempt],
            suspension: Some("\"why\"".to_owned()),
            rejected_by: vec!["a".to_owned()],
            waits: waits(),
            cause: Some("DUR0001: why".to_owned()),
            ..InstanceState::new(InstanceStatus::Suspended)
        },
        created_at: at(1),
        updated_at: at(3),
        finished_at: None,
    }
}

async fn copy_has_the_rows_of_its_original(world: World) {
    let node = world.join().await;
    let parked = StoredActivity {
        rejected: Some("\"no\"".to_owned()),
        rejected_by: vec!["a".to_owned()],
        cause: Some("DUR0007: no".to_owned()),
        other_cause: Some("oom".to_owned()),
        parked: true,
        ..activity(2, 2, 2)
    };
    let sent = StoredMessage { by_client: true, ..stored(message("sent")) };
    let graft = Graft {
        history: vec![event(1, "started"), event(2, "scheduled")],
        activities: vec![activity(2, 1, 2), parked],
        messages: vec![stored(MessageRow { visible_at: Some(at(9)), ..message("timer") }), sent],
        ..graft(GraftTarget::New(Box::new(copied("a"))))
    };
    assert_eq!(submit(&world, graft.clone()).await, Ok(unowned("a")));
    let record = world.record("a").await;
    assert_eq!((record.execution.clone(), record.status), (execution("a", 2), InstanceStatus::Suspended));
    assert_eq!((record.created_at, record.updated_at, record.version), (at(1), at(3), Some(v1())));
    assert_eq!(record.suspension.as_deref(), Some("\"why\""));
    assert_eq!(world.history("a", 1).await, [event(1, "before")]);
    let rows = world.admin().rows(&id("a")).await.expect("read").expect("the instance exists");
    assert_eq!((rows.execution, rows.last_event, rows.state.status), (execution("a", 2), EventId(2), record.status));
    assert_eq!((rows.state.suspension, rows.state.rejected_by), (record.suspension, vec!["a".to_owned()]));
    assert_eq!((rows.state.pause, &rows.state.waits, &rows.state.cause), (None, &record.waits, &record.cause));
    assert_eq!((record.waits, record.cause), (waits(), copied("a").state.cause));
    assert_eq!((rows.activities, rows.state.attempts), (graft.activities, copied("a").state.attempts));
    assert_eq!(rows.state.earlier.iter().map(|e| (e.number, e.continued_at)).collect::<Vec<_>>(), [(1, at(2))]);
    let mut messages = graft.messages;
    messages[1].row.number = Some(1);
    assert_eq!(rows.messages, messages);
    let labelled = Filter { labels: [("k".to_owned(), "v".to_owned())].into(), ..Filter::default() };
    assert_eq!(world.admin().list(&labelled, &Page::new(9)).await.expect("list").instances.len(), 1);
    // The build that has rejected it does not get it; another one does.
    assert!(names(&node.acquire(want(at(10))).await).is_empty());
    let other = world.join_as(&info("b")).await;
    let acquired = other.acquire(want(at(10))).await;
    assert_eq!(data(&find(&acquired, "a").messages), ["sent", "timer"]);
}

async fn copy_of_a_paused_instance_resumes_at_its_end(world: World) {
    let node = world.join().await;
    let pause = |until: Option<i64>| StoredPause { reason: "\"held\"".to_owned(), until: until.map(at) };
    for (name, until) in [("held", None), ("until", Some(20))] {
        let mut copied = copied(name);
        copied.state.pause = Some(pause(until));
        let graft = Graft {
            history: vec![event(1, "started")],
            messages: vec![stored(message("waits"))],
            ..graft(GraftTarget::New(Box::new(copied)))
        };
        assert_eq!(submit(&world, graft).await, Ok(unowned(name)));
        let record = world.record(name).await;
        assert_eq!((record.status, record.suspension.as_deref()), (InstanceStatus::Suspended, Some("\"held\"")));
        let rows = world.admin().rows(&id(name)).await.expect("read").expect("the instance exists");
        assert_eq!((rows.state.pause, rows.state.suspension.as_deref()), (Some(pause(until)), Some("\"why\"")));
    }
    // Another build does not end it.
    let other = world.join_as(&info("b")).await;
    let early = other.acquire(want(at(19))).await;
    assert_eq!((names(&early), early.next_due), (vec![], Some(at(20))));
    let acquired = node.acquire(want(at(20))).await;
    assert_eq!((names(&acquired), acquired.next_due), (vec!["until"], None));
    assert_eq!(data(&find(&acquired, "until").messages), ["waits"]);
    let rows = world.admin().rows(&id("until")).await.expect("read").expect("the instance exists");
    assert_eq!((rows.state.status, rows.state.pause, rows.state.suspension), (InstanceStatus::Running, None, None));
    assert_eq!((rows.state.cause, rows.state.waits), (None, waits()));
}

async fn graft_ends_a_pause(world: World) {
    let node = with_activity(&world, "a").await;
    let turn = Turn { waits: waits(), ..ending("a", 1, 2, Then::Continue) };
    let after = turn.last_event();
    node.turn(turn).await.expect("turn");
    let (reason, cause, until) = ("\"held\"".to_owned(), "DUR0010: held".to_owned(), Some(at(30)));
    let pause = SuspendRequest { id: CommitId::new(), instance: id("a"), reason, cause, until, time: at(3) };
    assert_eq!(world.submit(Submission::Suspend(pause)).await, Ok(unowned("a")));
    let graft = Graft {
        history: vec![event(1, "started")],
        messages: vec![stored(message("carried"))],
        ..graft(GraftTarget::Next(next("a", 1, after.0)))
    };
    assert_eq!(submit(&world, graft).await, Ok(unowned("a")));
    let rows = world.admin().rows(&id("a")).await.expect("read").expect("the instance exists");
    assert_eq!(
        (rows.state.status, rows.state.pause, rows.state.waits, rows.state.cause),
        (InstanceStatus::Running, None, None, None)
    );
    let acquired = node.acquire(want(at(10))).await;
    assert_eq!(data(&find(&acquired, "a").messages), ["carried"]);
    assert_eq!(node.acquire(want(at(40))).await.next_due, None);
}

async fn copy_under_a_taken_id_is_refused(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "a").await;
    let copy = graft(GraftTarget::New(Box::new(copied("a"))));
    assert_eq!(submit(&world, copy).await, Err(SubmitError::Exists(InstanceStatus::Running)));
    assert_eq!(world.record("a").await.execution, execution("a", 1));
    assert!(world.admin().rows(&id("none")).await.expect("read").is_none());
}
