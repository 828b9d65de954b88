//! Handing submissions to the provider.

use std::time::Duration;

use super::{Client, ClientError};
use crate::error::ErrorCode;
use crate::history::Input;
use crate::id::InstanceId;
use crate::message::Message;
use crate::payload::Payload;
use crate::provider::{MessageRow, ProviderError, Submission, SubmitError, Submitted};
use crate::runtime::Backoff;

impl Client {
    /// How long storage that fails is asked again before the caller is told.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Submits until there is an answer, for a while: sending the same again is harmless.
    pub(super) async fn submit(&self, instance: &InstanceId, submission: Submission) -> Result<Submitted, ClientError> {
        let begun = tokio::time::Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let error = match self.provider.submit(vec![submission.clone()]).await {
                Ok(mut answers) => match answers.pop() {
                    Some(Ok(submitted)) => return Ok(submitted),
                    Some(Err(error @ SubmitError::Failed(_))) => ClientError::submitted(instance, error),
                    Some(Err(error)) => return Err(ClientError::submitted(instance, error)),
                    None => ProviderError::permanent("submit", "the provider gave no answer").into(),
                },
                Err(error) => error.into(),
            };
            if !error.is_retryable() || begun.elapsed() >= Self::PATIENCE {
                return Err(error);
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Sends a message to a live instance.
    pub(super) async fn send(&self, to: &InstanceId, input: Input, payload: Payload) -> Result<(), ClientError> {
        let message = MessageRow::from(&Message::new(input, payload));
        let hold = self.clock.hold();
        let submission = Submission::Send { to: to.clone(), message: message.clone(), time: self.clock.now() };
        let submitted = self.submit(to, submission).await?;
        if let Some(local) = &self.local {
            local.deliver(submitted.owner, to.clone(), message, hold);
        }
        Ok(())
    }

    pub(super) fn check_size(&self, instance: &InstanceId, what: &str, payload: &Payload) -> Result<(), ClientError> {
        let refused = |reason| ClientError::refused(instance, ErrorCode::PayloadTooLarge, reason);
        self.limits.check(what, payload).map_err(refused)
    }
}
