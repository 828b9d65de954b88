use serde_json::json;

use super::InstanceExport;
use crate::client::snapshot::Snapshot;
use crate::clock::Timestamp;
use crate::history::{Parent, TextMap, Waits};
use crate::id::{CallId, Epoch, EventId, ExecutionId, Identity, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::provider::*;

/// A text that stands for a value of a customer.
const SECRET: &str = "s3cret";

fn at(n: i64) -> Timestamp {
    Timestamp::from_micros(n * 1_000_001)
}

fn secret() -> Payload {
    Payload::encode(&SECRET).expect("a text is JSON")
}

fn id(name: &str) -> ExecutionId {
    ExecutionId { instance: InstanceId::new(name).expect("valid"), identity: Identity::new(), number: 3 }
}

fn event(n: u64) -> EventRow {
    let (time, at) = (at(n as i64), Some(format!("src/flow.rs:{n}:1").into()));
    let data = json!({ "timer_fired": { "call": n } }).to_string();
    EventRow { id: EventId(n), time, decision: n.is_multiple_of(2), format: 1, data, payload: secret(), at }
}

fn messages() -> Vec<StoredMessage> {
    let event = MessageRow::from(&Message::new(crate::history::Input::raised("note"), secret()));
    let timer = Message::new(crate::history::Input::TimerFired { call: CallId(9) }, secret());
    let timer = MessageRow { execution: Some(3), visible_at: Some(at(50)), ..MessageRow::from(&timer) };
    let carried = MessageRow { id: MessageId::new(), lane: Lane::Carried, ..event.clone() };
    let stored = |(n, row)| StoredMessage { row, stored_at: at(n), by_client: n == 20 };
    (20..).zip([event, timer, carried]).map(stored).collect()
}

fn activity(call: u64, ready: Ready) -> StoredActivity {
    StoredActivity {
        execution: 3,
        activity: NewActivity {
            call: CallId(call),
            scheduled: EventId(2),
            name: format!("act-{call}"),
            tag: Some("gpu".to_owned()),
            detached: true,
            eager: false,
            headers: [("trace".to_owned(), "t".to_owned())].into(),
        },
        attempt: 4,
        ready,
        rejected: Some(format!("\"{SECRET}\"")),
        cause: Some(SECRET.to_owned()),
        other_cause: Some(SECRET.to_owned()),
        rejected_by: vec!["b1".to_owned(), "b2".to_owned()],
        parked: true,
    }
}

/// Returns an instance in which each field differs from its default.
fn full() -> Snapshot {
    let execution = id("order-17");
    let attempt = AttemptRecord {
        execution: 2,
        call: CallId(5),
        attempt: 6,
        node: Epoch(7),
        next_at: at(8),
        failed: FailedAttempt { began: at(9), ended: at(10), error: SECRET.to_owned() },
    };
    let state = InstanceState {
        status: InstanceStatus::Suspended,
        suspension: Some(format!("\"{SECRET}\"")),
        rejected_by: vec!["b3".to_owned()],
        pause: Some(StoredPause { reason: format!("\"{SECRET}\""), until: Some(at(11)) }),
        waits: Some(Waits { text: "e:Approval".to_owned(), since: at(12), until: Some(at(13)) }),
        cause: Some(SECRET.to_owned()),
        attempts: vec![attempt],
        earlier: vec![EarlierExecution { number: 1, continued_at: at(14), history: vec![event(1)] }],
    };
    let record = InstanceRecord {
        execution: execution.clone(),
        name: "checkout".to_owned(),
        version: Some(semver::Version::new(2, 1, 0)),
        status: state.status,
        labels: TextMap::from([("customer".to_owned(), "c77".to_owned())]),
        parent: Some(Parent { execution: id("batch"), call: CallId(15) }),
        created_at: at(16),
        updated_at: at(17),
        finished_at: Some(at(18)),
        last_event: EventId(2),
        outcome: None,
        suspension: state.suspension.clone(),
        cause: None,
        waits: None,
        owner: None,
        unclaimed: None,
        damaged: None,
    };
    let activities = vec![activity(1, Ready::At(at(30))), activity(2, Ready::AtOnce(at(31)))];
    let rows = InstanceRows { execution, last_event: EventId(2), state, messages: messages(), activities };
    Snapshot { record, rows, history: vec![event(1), event(2)] }
}

#[test]
fn export_keeps_each_field() {
    let snapshot = full();
    let json = InstanceExport::of(&snapshot).expect("readable").to_json();
    let read = InstanceExport::from_json(&json).expect("the form of this version").snapshot().expect("readable");
    assert!(read.is_same_as(&snapshot), "{read:#?}\n{snapshot:#?}");
}

#[test]
fn redacted_export_has_no_value() {
    let export = InstanceExport::of(&full()).expect("readable");
    assert_eq!(export.to_json().matches(SECRET).count(), 16, "each value is one");
    let json = export.redacted().to_json();
    assert!(!json.contains(SECRET), "{json}");
    for kept in ["checkout", "c77", "gpu", "src/flow.rs:2:1", "e:Approval", "\"trace\"", "redacted, 8 bytes"] {
        assert!(json.contains(kept), "{kept} is missing: {json}");
    }
}
