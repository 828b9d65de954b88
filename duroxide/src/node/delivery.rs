//! The inputs for turns.

use super::activities::Permit;
use super::measure::AttemptMeasure;
use crate::history::Input;
use crate::id::{ActivityId, CallId};
use crate::message::Lane;
use crate::payload::Payload;
use crate::provider::MessageRow;

/// An input for the next turn.
#[derive(Debug)]
pub(super) enum Delivery {
    /// A stored message. In a box, since deliveries are moved several times, and most are outcomes.
    Message(Box<MessageRow>),
    /// The outcome of an activity that ran here. It is not stored yet.
    Outcome(Box<LocalOutcome>),
}

impl Delivery {
    pub(super) fn message(row: MessageRow) -> Self {
        Self::Message(Box::new(row))
    }

    /// Releases the permit of an outcome, which is on its way to the storage.
    pub(super) fn release_permit(&mut self) {
        if let Self::Outcome(outcome) = self {
            outcome.permit = None;
        }
    }

    /// Returns the lane by which it is delivered.
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::Message(message) => message.lane,
            Self::Outcome(_) => Lane::Normal,
        }
    }

    /// Returns its rank among the deliveries of a turn, the lowest first: the start, requests from outside, and then lane
    /// by lane. A request does not wait behind a message that the code cannot read.
    pub(super) fn rank(&self) -> u8 {
        match self.lane() {
            Lane::Start => 0,
            Lane::End => 1,
            Lane::Carried | Lane::Normal if self.may_be_end_request() || self.may_be_removal() => 2,
            Lane::Carried => Self::CARRIED,
            Lane::Normal => 4,
        }
    }

    /// The number of ranks.
    pub(super) const RANKS: usize = 5;
    /// The rank of events that an earlier execution has not read.
    pub(super) const CARRIED: u8 = 3;

    /// Returns false if it is certainly no request to end.
    pub(super) fn may_be_end_request(&self) -> bool {
        match self {
            Self::Message(message) => Input::may_be_end_request(&message.data),
            Self::Outcome(_) => false,
        }
    }

    /// Returns false if it is certainly no removal of an unread event.
    fn may_be_removal(&self) -> bool {
        match self {
            Self::Message(message) => Input::may_be_removal(&message.data),
            Self::Outcome(_) => false,
        }
    }

    /// Returns true if it is an external event.
    pub(super) fn is_event(&self) -> bool {
        matches!(self, Self::Message(message) if message.lane != Lane::Start && Input::is_event(&message.data))
    }
}

/// The outcome of an activity that ran on this node.
#[derive(Debug)]
pub(super) struct LocalOutcome {
    pub(super) activity: ActivityId,
    pub(super) attempt: u32,
    pub(super) claim: u64,
    pub(super) input: Input,
    pub(super) payload: Payload,
    /// Its permit, until the outcome is on its way to the storage. `None`: it is on its way, or the thread of the
    /// activity is still busy.
    pub(super) permit: Option<Permit>,
    /// Recorded once the outcome is stored.
    pub(super) measure: Option<AttemptMeasure>,
}

impl LocalOutcome {
    pub(super) fn call(&self) -> CallId {
        self.activity.call
    }
}
