//! The rows that a provider stores. It does not interpret their content.

use std::sync::Arc;

use semver::Version;

use crate::clock::Timestamp;
use crate::history::{Decision, EventKind, FORMAT, HistoryEvent, Input, Parent, Started, TextMap};
use crate::id::{CallId, EventId, ExecutionId, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::payload::Payload;

/// The format of a row that the provider itself cannot read: `data` holds the reason.
pub const DAMAGED: u16 = u16::MAX;

/// A stored event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Its position in the history of its execution.
    pub id: EventId,
    /// When it was recorded.
    pub time: Timestamp,
    /// True for a decision, false for an input.
    pub decision: bool,
    /// The format of `data`.
    pub format: u16,
    /// The content, as JSON.
    pub data: String,
    /// Its value.
    pub payload: Payload,
    /// The place in the source of the call that a decision schedules. A text of few different values, for people: store
    /// it once per value if rows are to be short.
    pub at: Option<Arc<str>>,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRow {
    /// Its id.
    pub id: MessageId,
    /// Messages are delivered lane by lane. Within a lane, messages without [`visible_at`](Self::visible_at) are
    /// delivered in the order in which they were stored, regardless of the clocks of their senders. A message with a
    /// time of its own is delivered before the first of them that was sent, by the clock of its sender, after that
    /// time. Two messages with times of their own are delivered in the order of these times, and at equal times in the
    /// order in which they were stored. [`in_order`](super::in_order) sorts messages in this order.
    pub lane: Lane,
    /// The execution that it is for. `None`: the current one.
    pub execution: Option<u64>,
    /// The call of that execution that it answers. A timer is removed by its call.
    pub call: Option<CallId>,
    /// The time before which it is not delivered. `None`: it is delivered at once. Only a start, and a message of an
    /// instance to itself, has such a time; the owner of the instance receives it without mail.
    pub visible_at: Option<Timestamp>,
    /// Its number among the messages of its instance, from 1, assigned by the provider. `None` on the way to the
    /// provider, and for a message with a time of its own, unless a client has woken it
    /// ([`Submission::Wake`](super::Submission::Wake)).
    ///
    /// A message receives its number under the lock of its instance, at the moment when it becomes visible: a reader of
    /// a number can read all lower ones. The owner of the instance delivers messages in the order of their numbers. If
    /// a number is not the next one, the owner asks for the messages in the gap ([`Load::heard`](super::Load::heard)).
    ///
    /// A message for an owned instance that its sender does not forward to the owner (see
    /// [`SendRequest::lease`](super::SendRequest::lease)) leaves *mail*: the provider notes the instance and the number
    /// for the owner, signals it, and names the instance in its answers to requests for work until
    /// [`Want::heard`](super::Want::heard) acknowledges that number.
    pub number: Option<u64>,
    /// The format of `data`.
    pub format: u16,
    /// The content, as JSON.
    pub data: String,
    /// Its value.
    pub payload: Payload,
}

/// The error of a row whose content this version cannot read. The row is kept, and its instance is suspended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {reason}")]
pub struct UnreadableRow {
    what: String,
    reason: String,
}

impl UnreadableRow {
    pub(super) fn check(what: impl Fn() -> String, format: u16, data: &str) -> Result<(), Self> {
        if format <= FORMAT {
            return Ok(());
        }
        if format == DAMAGED {
            return Err(Self { what: what(), reason: format!("it is damaged: {data}") });
        }
        let reason = format!("it has format {format}, this version reads up to {FORMAT}; deploy a newer version");
        Err(Self { what: what(), reason })
    }
}

impl From<&HistoryEvent> for EventRow {
    fn from(event: &HistoryEvent) -> Self {
        let (decision, format, data) = match &event.kind {
            EventKind::Input(input) => (false, input.format(), to_json(input)),
            EventKind::Decision(decision) => (true, decision.format(), to_json(decision)),
        };
        Self {
            id: event.id,
            time: event.time,
            decision,
            format,
            data,
            payload: event.payload.clone(),
            at: event.at.clone(),
        }
    }
}

impl TryFrom<EventRow> for HistoryEvent {
    type Error = UnreadableRow;

    fn try_from(row: EventRow) -> Result<Self, UnreadableRow> {
        let what = || format!("event {}", row.id);
        UnreadableRow::check(what, row.format, &row.data)?;
        let kind = if row.decision {
            serde_json::from_str::<Decision>(&row.data).map(EventKind::Decision)
        } else {
            serde_json::from_str::<Input>(&row.data).map(EventKind::Input)
        };
        let kind = kind.map_err(|e| UnreadableRow { what: what(), reason: e.to_string() })?;
        Ok(Self { id: row.id, time: row.time, kind, payload: row.payload, at: row.at })
    }
}

impl From<&Message> for MessageRow {
    fn from(message: &Message) -> Self {
        Self {
            id: message.id,
            lane: message.lane,
            execution: message.execution,
            call: message.input.call(),
            visible_at: message.visible_at,
            number: None,
            format: message.input.format(),
            data: to_json(&message.input),
            payload: message.payload.clone(),
        }
    }
}

impl TryFrom<MessageRow> for Message {
    type Error = UnreadableRow;

    fn try_from(row: MessageRow) -> Result<Self, UnreadableRow> {
        let what = || format!("message {}", row.id);
        UnreadableRow::check(what, row.format, &row.data)?;
        let input = serde_json::from_str::<Input>(&row.data)
            .map_err(|e| UnreadableRow { what: what(), reason: e.to_string() })?;
        Ok(Self {
            id: row.id,
            lane: row.lane,
            execution: row.execution,
            visible_at: row.visible_at,
            input,
            payload: row.payload,
        })
    }
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| unreachable!("events hold only text, numbers and enums: {e}"))
}

/// An instance to be created, with the message that starts it.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Its id.
    pub instance: InstanceId,
    /// The name of its orchestration.
    pub name: String,
    /// The version of the orchestration. `None`: not pinned yet; a node with the latest version that any member has may
    /// claim the instance.
    pub version: Option<Version>,
    /// Labels to find it by.
    pub labels: TextMap,
    /// The call that started it and waits for its outcome, if any.
    pub parent: Option<Parent>,
    /// The message that starts it.
    pub start: MessageRow,
    /// True if the node that sends the request is to own the instance from the beginning. Ignored if that node has lost
    /// its lease, or if no version is given and another member has a later one.
    pub eager: bool,
}

impl NewInstance {
    /// Makes a new instance with the message that starts it.
    pub(crate) fn started(instance: InstanceId, started: Started, input: Payload, eager: bool) -> Self {
        let (name, version) = (started.name.clone(), started.version.clone());
        let (labels, parent) = (started.labels.clone(), started.parent.clone());
        let start = Message::new(Input::Started(Box::new(started)), input).in_lane(Lane::Start);
        Self { instance, name, version, labels, parent, start: MessageRow::from(&start), eager }
    }

    /// Returns its first execution.
    pub fn first_execution(&self) -> ExecutionId {
        ExecutionId { instance: self.instance.clone(), identity: self.start.id.into(), number: 1 }
    }
}
