//! A replay in parts: while one part of a history is read, the one before it is replayed.

use super::{Execution, Fault};
use crate::history::{Event, EventKind};

/// A replay that is under way.
pub(crate) struct Replay {
    execution: Box<Execution>,
    /// The last step so far: it is whole once another follows, or the history ends.
    last_step: Vec<Event>,
}

impl Replay {
    /// Begins one with an execution without history.
    pub(crate) fn new(execution: Box<Execution>) -> Self {
        Self { execution, last_step: Vec::new() }
    }

    /// The execution, as far as it has come.
    pub(crate) fn execution(&self) -> &Execution {
        &self.execution
    }

    /// Goes on with the next part of the history. The parts may be cut anywhere.
    ///
    /// # Errors
    /// As [`Execution::replay`].
    pub(crate) fn part(&mut self, mut events: Vec<Event>) -> Result<(), Fault> {
        let Some(last) = events.iter().rposition(|event| matches!(event.kind, EventKind::Input(_))) else {
            self.last_step.append(&mut events);
            return Ok(());
        };
        let last_step = events.split_off(last);
        let mut whole = std::mem::replace(&mut self.last_step, last_step);
        whole.append(&mut events);
        self.execution.replay(&whole)
    }

    /// The history has ended.
    ///
    /// # Errors
    /// As [`Execution::replay`].
    pub(crate) fn end(mut self) -> Result<Box<Execution>, Fault> {
        self.execution.replay(&self.last_step)?;
        Ok(self.execution)
    }
}
