//! Removes an unread message of an instance.

use super::audit::Act;
use super::{Client, ClientError};
use crate::error::{ErrorCode, UnreadMessage};
use crate::history::{EventKind, HistoryEvent, Input};
use crate::id::{EventId, InstanceId};
use crate::message::Message;
use crate::payload::Payload;
use crate::provider::Submission;

impl Client {
    pub(super) async fn drop_message(&self, instance: &InstanceId, unread: UnreadMessage) -> Result<(), ClientError> {
        self.check_running(Some(instance))?;
        let found = match unread {
            UnreadMessage::Queued(message) => {
                let submission = Submission::Drop { instance: instance.clone(), message };
                let submission = self.audited(Act::named("drop message"), submission);
                self.submit(instance, submission).await?.written
            }
            UnreadMessage::Recorded(event) => {
                let execution = self.execution_with(instance, event).await?;
                if let Some(execution) = execution {
                    // The history is not changed. The removal becomes an input, delivered before other messages. Another
                    // execution has another event with this id.
                    let removal = Message::new(Input::EventDropped { event }, Payload::NULL);
                    self.send_message(instance, &removal.for_execution(execution)).await?;
                }
                execution.is_some()
            }
        };
        if !found {
            let reason = format!("{unread} does not wait, or cannot be removed");
            return Err(ClientError::refused(instance, ErrorCode::MessageNotFound, reason));
        }
        tracing::info!(%instance, %unread, "unread message removed");
        Ok(())
    }

    /// Returns the number of the current execution if the event is an external event in its history.
    async fn execution_with(&self, instance: &InstanceId, event: EventId) -> Result<Option<u64>, ClientError> {
        let execution = self.record(instance).await?.execution;
        let before = EventId(event.0.saturating_sub(1));
        let page = self.ask(|| self.provider.history(&execution, before)).await?;
        let row = page.events.into_iter().next().filter(|row| row.id == event);
        let kind = row.and_then(|row| HistoryEvent::try_from(row).ok()).map(|event| event.kind);
        let is_raised = matches!(kind, Some(EventKind::Input(Input::EventRaised { .. })));
        Ok(is_raised.then_some(execution.number))
    }
}
