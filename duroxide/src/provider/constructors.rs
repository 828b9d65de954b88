//! Constructors of the contract's types: each takes the fields that have no neutral value. The fields are public, so
//! that `Turn { events, ..Turn::new(execution, after, time) }` sets others.

use std::sync::Arc;

use super::{MessageRow, NewActivity, NewInstance, Then, Turn, Want};
use crate::clock::Timestamp;
use crate::history::{FORMAT, TextMap};
use crate::id::{CallId, EventId, ExecutionId, InstanceId, MessageId};
use crate::message::Lane;
use crate::payload::Payload;

impl Turn {
    /// Makes a turn that writes nothing, of an execution that continues and whose last event is `after`.
    pub fn new(execution: ExecutionId, after: EventId, time: Timestamp) -> Self {
        Self {
            creates: None,
            execution,
            after,
            version: None,
            events: Vec::new(),
            consumed: Vec::new(),
            outcomes: Vec::new(),
            activities: Vec::new(),
            cancelled_activities: Vec::new(),
            cancelled_messages: Vec::new(),
            messages: Vec::new(),
            starts: Vec::new(),
            waits: None,
            cause: None,
            then: Then::Continue,
            time,
        }
    }
}

impl Want {
    /// Makes a first request: for the mail of owned instances only, and from a node that serves every tag.
    pub fn new(now: Timestamp) -> Self {
        Self {
            orchestrations: Arc::new([]),
            instances: 0,
            activities: Vec::new(),
            tags: None,
            load: Vec::new(),
            alone: false,
            now,
            claim: 0,
            heard: Vec::new(),
            cancelled: Vec::new(),
            overdue: Vec::new(),
        }
    }
}

impl MessageRow {
    /// Makes a message in the normal lane, for any execution, due at once, with a new id and without a value.
    pub fn new(data: impl Into<String>) -> Self {
        Self {
            id: MessageId::new(),
            lane: Lane::Normal,
            execution: None,
            call: None,
            visible_at: None,
            number: None,
            format: FORMAT,
            data: data.into(),
            payload: Payload::NULL,
        }
    }
}

impl NewInstance {
    /// Makes an instance without an owner, a version, labels or a parent; `start` is put into the lane of starts.
    pub fn new(instance: InstanceId, name: impl Into<String>, start: MessageRow) -> Self {
        Self {
            instance,
            name: name.into(),
            version: None,
            labels: TextMap::new(),
            parent: None,
            start: MessageRow { lane: Lane::Start, ..start },
            eager: false,
        }
    }
}

impl NewActivity {
    /// Makes an activity that any node may claim and that ends with its execution.
    pub fn new(call: CallId, scheduled: EventId, name: impl Into<String>) -> Self {
        Self { call, scheduled, name: name.into(), tag: None, detached: false, eager: false, headers: TextMap::new() }
    }
}
