//! Replays a history page by page, so that the next page can be read while the last one is replayed.

use super::{Execution, Fault};
use crate::history::{EventKind, HistoryEvent};

/// A replay in progress.
pub(crate) struct Replay {
    execution: Box<Execution>,
    /// The newest step so far. It is complete only when another step begins, or the history ends.
    last_step: Vec<HistoryEvent>,
}

impl Replay {
    /// Begins a replay into an execution without history.
    pub(crate) fn new(execution: Box<Execution>) -> Self {
        Self { execution, last_step: Vec::new() }
    }

    /// Returns the execution as replayed so far.
    pub(crate) fn execution(&self) -> &Execution {
        &self.execution
    }

    /// Replays the next page of the history. A page may end in the middle of a step.
    ///
    /// # Errors
    /// As [`Execution::replay`].
    pub(crate) fn push_page(&mut self, events: Vec<HistoryEvent>) -> Result<(), Fault> {
        let begins_step = |event: &HistoryEvent| matches!(event.kind, EventKind::Input(_));
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

    /// Replays the last step; the history has ended.
    ///
    /// # Errors
    /// As [`Execution::replay`].
    pub(crate) fn end(mut self) -> Result<Box<Execution>, Fault> {
        self.execution.replay(&self.last_step)?;
        Ok(self.execution)
    }
}
