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
    pub(crate) fn part(&mut self, events: Vec<Event>) -> Result<(), Fault> {
        let begins_step = |event: &Event| matches!(event.kind, EventKind::Input(_));
        let first = events.iter().position(begins_step).unwrap_or(events.len());
        let mut events = events.into_iter();
        self.last_step.extend(events.by_ref().take(first));
        let Some(last) = events.as_slice().iter().rposition(begins_step) else { return Ok(()) };
        let (steps, behind) = (&events.as_slice()[..last], events.as_slice().get(last));
        self.execution.replay_steps(&self.last_step, events.as_slice().first())?;
        self.execution.replay_steps(steps, behind)?;
        self.last_step.clear();
        self.last_step.extend(events.skip(last));
        Ok(())
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
