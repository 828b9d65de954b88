//! The effects of a timer: a message of the instance to itself, with a time of its own.

use super::TurnBuilder;
use crate::clock::Timestamp;
use crate::history::Input;
use crate::id::CallId;
use crate::message::Message;
use crate::payload::Payload;

impl TurnBuilder<'_> {
    pub(super) fn create_timer(&mut self, call: CallId, due: Timestamp) {
        self.send_at(call, due, Input::TimerFired { call });
    }

    /// Sends a message to this execution, due at a time.
    pub(super) fn send_at(&mut self, call: CallId, due: Timestamp, input: Input) {
        debug_assert_eq!(input.call(), Some(call), "a timer is removed by its call");
        // `Timestamp::MAX` means "never": no message is stored.
        if due < Timestamp::MAX {
            let number = self.info.execution.number;
            let message = Message::new(input, Payload::NULL).for_execution(number).visible_at(due);
            self.send_to_self(message);
        }
    }

    /// Removes a timer or a deadline, including one that an earlier step of this turn has created.
    pub(super) fn cancel_timer(&mut self, call: CallId) {
        let own = &self.info.execution.instance;
        let before = self.turn.messages.len();
        self.turn.messages.retain(|outgoing| outgoing.to != *own || outgoing.message.call != Some(call));
        if self.turn.messages.len() == before {
            self.turn.cancelled_messages.push(call);
        }
    }
}
