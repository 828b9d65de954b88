//! Erases the values of finished instances.

use super::state::State;
use super::*;

impl State {
    pub(super) fn redact(&mut self, request: &RedactRequest) -> Result<Submitted, SubmitError> {
        let RedactRequest { execution: ExecutionId { instance: id, identity, number }, receipt } = request;
        let has_activities = !self.activities_of(id, None).is_empty();
        let instance = self.instances.get_mut(id).filter(|instance| instance.identity() == *identity);
        let instance = instance.ok_or(SubmitError::NotFound)?;
        if !instance.status.is_finished() || has_activities {
            return Err(SubmitError::Live(instance.status));
        }
        let mut written = false;
        if let Some(execution) = instance.executions.get_mut(number) {
            // All events, or none.
            let mut events = execution.events.clone();
            for event in &mut events {
                written |= event.erase(*receipt).map_err(|error| SubmitError::Unreadable(error.to_string()))?;
            }
            execution.events = events;
            execution.attempts.values_mut().for_each(|attempt| written |= attempt.failed.erase(*receipt));
        }
        written |= instance.cause.take().is_some();
        (instance.suspension, instance.paused) = (None, None);
        Ok(self.unnumbered(id, written))
    }
}
