//! The erasure of the values of finished instances.

use super::fixture::*;
use super::list;
use crate::history::{ActivityScheduled, Decision, EventKind, HistoryEvent, Input, Started, TextMap};
use crate::id::{AuditId, CallId, CommitId, EventId, ExecutionId};
use crate::payload::Payload;
use crate::provider::*;

list!(
    erasure_keeps_the_structure_of_a_finished_instance,
    erasure_reaches_earlier_executions_and_long_values,
    repeated_erasure_changes_nothing,
    live_instance_is_not_erased,
    instance_with_open_activities_is_not_erased,
    erasure_of_another_identity_is_refused,
    erased_instance_is_not_continued,
);

/// The secret that must not remain.
const SECRET: &str = "4711-secret";

fn row(n: u64, kind: EventKind, payload: Payload) -> EventRow {
    EventRow::from(&HistoryEvent { id: EventId(n), time: at(1), kind, payload, at: Some("src/flow.rs:1:5".into()) })
}

fn started() -> EventRow {
    let texts = |name: &str| TextMap::from([(name.to_owned(), SECRET.to_owned())]);
    let started = Started {
        name: "flow".to_owned(),
        version: Some(v1()),
        seed: 1,
        parent: None,
        headers: texts("tenant"),
        labels: TextMap::new(),
        request: None,
    };
    row(1, EventKind::Input(Input::Started(Box::new(started))), text(SECRET))
}

fn scheduled() -> EventRow {
    let activity = ActivityScheduled {
        call: CallId(1),
        name: "work".to_owned(),
        tag: None,
        detached: false,
        options: Default::default(),
    };
    row(2, EventKind::Decision(Decision::ActivityScheduled(Box::new(activity))), Payload::NULL)
}

fn cancelled(n: u64) -> EventRow {
    row(n, EventKind::Decision(Decision::Cancelled { reason: SECRET.to_owned() }), Payload::NULL)
}

fn redact(name: &str, number: u64, receipt: AuditId) -> Submission {
    Submission::Redact(RedactRequest { execution: execution(name, number), receipt })
}

fn audited(receipt: AuditId, submission: Submission) -> Submission {
    let entry = AuditEntry { id: receipt, ..AuditEntry::new(at(9), "ana", "erase") };
    Submission::Audited { entry: Box::new(entry), submission: Box::new(submission) }
}

async fn receipts(world: &World) -> Vec<AuditId> {
    let page = world.admin().audit(&AuditQuery::default(), &Page::new(9)).await.expect("list the audit");
    page.entries.into_iter().map(|entry| entry.id).collect()
}

/// Runs an instance to its end, with a failed attempt. Returns its node.
async fn finished(world: &World, name: &str) -> Member {
    let node = world.join().await;
    let new = world.start_owned(&node, name).await;
    let turn = Turn {
        events: vec![started(), scheduled()],
        consumed: vec![new.start.id],
        activities: vec![NewActivity { eager: true, ..new_activity(1, 2) }],
        ..turn(name, 1, 0)
    };
    node.turn(turn).await.expect("the first turn");
    node.commit(retry(tenure(name, 1, 0), 3)).await.expect("a failed attempt");
    let then = Then::Finish { status: InstanceStatus::Failed };
    let end = Turn { events: vec![cancelled(3)], cause: Some(SECRET.to_owned()), ..ending(name, 1, 2, then) };
    node.turn(end).await.expect("the end");
    node
}

fn assert_erased(events: &[EventRow]) {
    assert!(!format!("{events:?}{}", all_values(events)).contains(SECRET), "{events:?}");
}

fn all_values(events: &[EventRow]) -> String {
    events.iter().map(|event| event.payload.to_string()).collect()
}

async fn erasure_keeps_the_structure_of_a_finished_instance(world: World) {
    let node = finished(&world, "a").await;
    let (before, record) = (world.history("a", 1).await, world.record("a").await);
    let receipt = AuditId::new();
    let submitted = world.submit(audited(receipt, redact("a", 1, receipt))).await;
    assert_eq!(submitted, Ok(unowned("a")));
    let events = world.history("a", 1).await;
    assert_erased(&events);
    let shape = |events: &[EventRow]| -> Vec<_> {
        events.iter().map(|event| (event.id, event.time, event.decision, event.format, event.at.clone())).collect()
    };
    assert_eq!(shape(&events), shape(&before));
    assert!(events.iter().all(|event| event.payload == Payload::erased(receipt)), "{}", all_values(&events));
    for event in events {
        HistoryEvent::try_from(event).expect("its content can be read");
    }
    let attempts = world.admin().activities(&id("a")).await.expect("read").expect("the instance exists").failed;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].failed.error, Payload::erased(receipt).to_string());
    let outcome = world.history("a", 1).await.pop();
    let expected = InstanceRecord { cause: None, outcome, ..record };
    assert_eq!(format!("{:?}", world.record("a").await), format!("{expected:?}"));
    assert_eq!(receipts(&world).await, [receipt]);
    drop(node);
}

async fn erasure_reaches_earlier_executions_and_long_values(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "a").await;
    let long = text(&SECRET.repeat(20_000));
    let events = vec![EventRow { payload: long.clone(), ..started() }, EventRow { payload: long, ..event(2, SECRET) }];
    let carried = Outgoing { to: id("a"), identity: None, message: message("next") };
    let turn = Turn {
        events,
        consumed: vec![new.start.id],
        messages: vec![carried],
        then: Then::ContinueAsNew { version: Some(v1()) },
        ..turn("a", 1, 0)
    };
    node.turn(turn).await.expect("the first execution");
    node.turn(ending("a", 2, 0, completed())).await.expect("the second one");
    let receipt = AuditId::new();
    for (number, written) in [(2, true), (1, true), (3, false)] {
        let submitted = world.submit(redact("a", number, receipt)).await;
        assert_eq!(submitted, Ok(Submitted { written, ..unowned("a") }), "{number}");
    }
    let first = world.history("a", 1).await;
    assert_erased(&first);
    assert_eq!(first.len(), 2);
    // Content that is not an event is replaced as a whole.
    assert_eq!(first[1].data, Payload::erased(receipt).to_string());
    assert!(world.history("a", 2).await[0].payload.receipt().is_some());
}

async fn repeated_erasure_changes_nothing(world: World) {
    let node = finished(&world, "a").await;
    let (receipt, other) = (AuditId::new(), AuditId::new());
    assert_eq!(world.submit(audited(receipt, redact("a", 1, receipt))).await, Ok(unowned("a")));
    let state = async || format!("{:?}{:?}", world.history("a", 1).await, world.record("a").await);
    let before = state().await;
    for receipt in [receipt, other] {
        let mut again = audited(receipt, redact("a", 1, receipt));
        again.mark_resent();
        assert_eq!(world.submit(again).await, Ok(Submitted { written: false, ..unowned("a") }));
    }
    assert_eq!(state().await, before);
    assert_eq!(receipts(&world).await, [receipt]);
    drop(node);
}

async fn live_instance_is_not_erased(world: World) {
    let node = world.join().await;
    for (name, status) in [("running", InstanceStatus::Running), ("suspended", InstanceStatus::Suspended)] {
        world.start_owned(&node, name).await;
        node.turn(Turn { events: vec![started()], ..turn(name, 1, 0) }).await.expect("a turn");
        if status == InstanceStatus::Suspended {
            node.turn(Turn { then: suspended(), ..turn(name, 1, 1) }).await.expect("a suspension");
        }
        let receipt = AuditId::new();
        let refused = world.submit(audited(receipt, redact(name, 1, receipt))).await;
        assert_eq!(refused, Err(SubmitError::Live(status)));
        assert_eq!(world.history(name, 1).await, [started()]);
    }
    assert_eq!(receipts(&world).await, []);
}

async fn instance_with_open_activities_is_not_erased(world: World) {
    let node = world.join().await;
    let detached = NewActivity { detached: true, eager: true, ..new_activity(1, 2) };
    schedule(&world, &node, "a", detached).await;
    node.turn(ending("a", 1, 2, completed())).await.expect("the end");
    let receipt = AuditId::new();
    let refused = world.submit(redact("a", 1, receipt)).await;
    assert_eq!(refused, Err(SubmitError::Live(InstanceStatus::Completed)));
    node.commit(outcome(tenure("a", 1, 0))).await.expect("the activity still has its input");
    assert_eq!(world.submit(redact("a", 1, receipt)).await, Ok(unowned("a")));
}

async fn erasure_of_another_identity_is_refused(world: World) {
    let node = finished(&world, "a").await;
    world.replace("a", None).await;
    let receipt = AuditId::new();
    for name in ["a", "none"] {
        assert_eq!(world.submit(audited(receipt, redact(name, 1, receipt))).await, Err(SubmitError::NotFound));
    }
    assert_eq!(receipts(&world).await, []);
    drop(node);
}

async fn erased_instance_is_not_continued(world: World) {
    let node = finished(&world, "a").await;
    let history = world.history("a", 1).await;
    world.submit(redact("a", 1, AuditId::new())).await.expect("erase");
    let next = NextExecution {
        execution: ExecutionId { number: 1, ..execution("a", 1) },
        last_event: EventId(3),
        consumed: Vec::new(),
        cancelled_activities: Vec::new(),
    };
    let graft = Graft {
        id: CommitId::new(),
        target: GraftTarget::Next(next),
        version: Some(v1()),
        history: history[..1].to_vec(),
        activities: Vec::new(),
        messages: Vec::new(),
        starts: Vec::new(),
        outgoing: Vec::new(),
        time: at(4),
    };
    assert_eq!(world.submit(Submission::Graft(Box::new(graft))).await, Err(SubmitError::Conflict));
    assert_eq!(world.record("a").await.status, InstanceStatus::Failed);
    drop(node);
}
