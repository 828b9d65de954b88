//! Messages: what comes in for an instance and waits to be delivered by a turn.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::history::Input;
use crate::id::MessageId;
use crate::payload::Payload;

/// Something for an instance that is not in its history yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Names it, so that it can be sent again and is still one message.
    pub id: MessageId,
    /// Its place among the messages of the instance.
    pub lane: Lane,
    /// The execution that it is for. `None`: whichever is current.
    pub execution: Option<u64>,
    /// Not delivered before this time. `None`: at once.
    pub visible_at: Option<Timestamp>,
    /// What it says.
    pub input: Input,
    /// The value that belongs to it.
    pub payload: Payload,
}

/// Messages are delivered lane by lane, and within a lane in the order of their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Lane {
    /// The start of the execution.
    Start = 0,
    /// Unread events of the execution before, which are older than all that still waits in the queue.
    Carried = 1,
    /// Everything else.
    Normal = 2,
}

impl Message {
    /// A message that is to be delivered at once.
    pub fn new(input: Input, payload: Payload) -> Self {
        Self { id: MessageId::new(), lane: Lane::Normal, execution: None, visible_at: None, input, payload }
    }

    /// The same, for one execution only.
    #[must_use]
    pub fn for_execution(mut self, number: u64) -> Self {
        self.execution = Some(number);
        self
    }

    /// The same, in another lane.
    #[must_use]
    pub fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// The same, not before a time.
    #[must_use]
    pub fn visible_at(mut self, time: Timestamp) -> Self {
        self.visible_at = Some(time);
        self
    }
}
