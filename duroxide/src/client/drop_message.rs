//! Removes an unread message of an instance.

use super::{Client, ClientError};
use crate::error::{ErrorCode, UnreadMessage};
use crate::history::{EventKind, HistoryEvent, Input};
use crate::id::{EventId, InstanceId};
use crate::payload::Payload;
use crate::provider::Submission;

impl Client {
    pub(super) async fn drop_message(&self, instance: &InstanceId, unread: UnreadMessage) -> Result<(), ClientError> {
        self.check_running(Some(instance))?;
        let found = match unread {
            UnreadMessage::Queued(message) => {
                let submission = Submission::Drop { instance: instance.clone(), message };
                self.submit(instance, submission).await?.written
            }
            UnreadMessage::Recorded(event) => {
                let is_event = self.is_raised(instance, event).await?;
                if is_event {
                    // The history is not changed. The removal becomes an input, delivered before other messages.
                    self.send(instance, Input::EventDropped { event }, Payload::NULL).await?;
                }
                is_event
            }
        };
        if !found {
            let reason = format!("{unread} does not wait, or cannot be removed");
            return Err(ClientError::refused(instance, ErrorCode::MessageNotFound, reason));
        }
        tracing::info!(%instance, %unread, "unread message removed");
        Ok(())
    }

    /// Returns true if an event of the current execution is an external event.
    async fn is_raised(&self, instance: &InstanceId, event: EventId) -> Result<bool, ClientError> {
        let execution = self.record(instance).await?.execution;
        let before = EventId(event.0.saturating_sub(1));
        let page = self.ask(|| self.provider.history(&execution, before)).await?;
        let row = page.events.into_iter().next().filter(|row| row.id == event);
        let kind = row.and_then(|row| HistoryEvent::try_from(row).ok()).map(|event| event.kind);
        Ok(matches!(kind, Some(EventKind::Input(Input::EventRaised { .. }))))
    }
}
