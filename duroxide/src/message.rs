//! Messages: the inputs of an instance that no turn has delivered yet.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::history::Input;
use crate::id::MessageId;
use crate::payload::Payload;

/// An input of an instance that is not in its history yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Identifies the message, so that sending it again does not duplicate it.
    pub id: MessageId,
    /// Its place among the messages of the instance.
    pub lane: Lane,
    /// The execution that it is for. `None`: the current one.
    pub execution: Option<u64>,
    /// Not delivered before this time. `None`: at once.
    pub visible_at: Option<Timestamp>,
    /// The input.
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
    /// Unread events of the previous execution, which are older than the messages in the queue.
    Carried = 1,
    /// Everything else.
    Normal = 2,
    /// A request to terminate the instance. Any node carries it out if the instance has no owner; see
    /// [`Acquired::ending`](crate::provider::Acquired::ending).
    End = 3,
}

impl Message {
    /// Creates a message that is delivered at once.
    pub fn new(input: Input, payload: Payload) -> Self {
        let lane = if matches!(input, Input::TerminateRequested { .. }) { Lane::End } else { Lane::Normal };
        Self { id: MessageId::new(), lane, execution: None, visible_at: None, input, payload }
    }

    /// Sets the only execution that it is for.
    #[must_use]
    pub fn for_execution(mut self, number: u64) -> Self {
        self.execution = Some(number);
        self
    }

    /// Sets the lane.
    #[must_use]
    pub fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Sets the earliest time of delivery.
    #[must_use]
    pub fn visible_at(mut self, time: Timestamp) -> Self {
        self.visible_at = Some(time);
        self
    }
}
