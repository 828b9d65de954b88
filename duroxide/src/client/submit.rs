//! Sends requests to the provider, and retries them while the storage fails.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::audit::Act;
use super::{Client, ClientError};
use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::history::Input;
use crate::id::InstanceId;
use crate::message::Message;
use crate::node::NodeHandle;
use crate::payload::Payload;
use crate::policy::Limits;
use crate::provider::{MessageRow, ProviderError, REPEAT_TIME, SendRequest, Submission, SubmitError, Submitted};

/// The pauses between the attempts of one request, and the deadline of its retries.
pub(super) struct RetryDeadline {
    begun: tokio::time::Instant,
    retry_time: Duration,
    backoff: Backoff,
}

/// The time within which a request is carried out, or never: see `docs/lost-answers.md`.
const LATEST: Duration = Duration::from_secs(30);
// By default, each repetition is recognised.
const _: () = assert!(Client::RETRY_TIME.as_secs() <= REPEAT_TIME.as_secs() - LATEST.as_secs());

impl RetryDeadline {
    /// Pauses before the next attempt: the last one is made at the deadline.
    ///
    /// # Errors
    /// The error itself, if it is not retryable or the deadline has passed.
    pub(super) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retryable() {
            return Err(error);
        }
        let waited = self.begun.elapsed();
        let left = self.retry_time.saturating_sub(waited);
        if left.is_zero() {
            return Err(error.after(waited));
        }
        tokio::time::sleep(self.backoff.next().min(left)).await;
        Ok(())
    }
}

/// A submission with an unknown outcome: its caller dropped it, or the answer was lost. If it is carried out, no answer
/// reaches the local node, so on drop the guard sends the node a request to recheck the instance.
struct RecheckOnDrop<'a> {
    local: Option<&'a NodeHandle>,
    instance: &'a InstanceId,
}

impl RecheckOnDrop<'_> {
    /// Disarms the guard, because there is an answer: the caller forwards it, or the submission was refused.
    fn disarm(mut self) {
        self.local = None;
    }
}

impl Drop for RecheckOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(local) = self.local {
            local.recheck(self.instance.clone());
        }
    }
}

impl Client {
    /// Begins the retries of a request.
    pub(super) fn retry_deadline(&self) -> RetryDeadline {
        RetryDeadline { begun: tokio::time::Instant::now(), retry_time: self.retry_time, backoff: Backoff::default() }
    }

    /// Begins the retries of a submission. They end as long as the storage recognises a repetition.
    fn submit_deadline(&self) -> RetryDeadline {
        let mut deadline = self.retry_deadline();
        deadline.retry_time = deadline.retry_time.min(REPEAT_TIME.saturating_sub(LATEST));
        deadline
    }

    /// Sends a read to the storage, and retries it until the retry time has passed.
    pub(super) async fn ask<'a, T>(
        &self,
        request: impl Fn() -> BoxFuture<'a, Result<T, ProviderError>>,
    ) -> Result<T, ClientError> {
        let mut deadline = self.retry_deadline();
        loop {
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => deadline.after(error.into()).await?,
            }
        }
    }

    /// Submits, and retries until the retry time has passed. A repetition has no effect if an earlier attempt was
    /// carried out.
    pub(crate) async fn submit(
        &self,
        instance: &InstanceId,
        mut submission: Submission,
    ) -> Result<Submitted, ClientError> {
        let mut deadline = self.submit_deadline();
        loop {
            let error = match self.provider.submit(vec![submission.clone()]).await {
                Ok(mut answers) => match answers.pop() {
                    Some(Ok(submitted)) => return Ok(submitted),
                    Some(Err(error @ SubmitError::Failed(_))) => ClientError::submitted(instance, error),
                    Some(Err(error)) => return Err(ClientError::submitted(instance, error)),
                    None => ProviderError::permanent("submit", "the provider did not answer").into(),
                },
                Err(error) => error.into(),
            };
            deadline.after(error).await?;
            submission.mark_resent();
        }
    }

    /// As [`submit`](Self::submit), for a submission whose answer the caller forwards to the local node.
    pub(super) async fn submit_for(
        &self,
        local: Option<&NodeHandle>,
        instance: &InstanceId,
        submission: Submission,
    ) -> Result<Submitted, ClientError> {
        let recheck = RecheckOnDrop { local, instance };
        let submitted = self.submit(instance, submission).await;
        if submitted.as_ref().err().is_none_or(|error| !error.is_storage_failure()) {
            recheck.disarm();
        }
        submitted
    }

    /// Sends a message to a live instance.
    pub(super) async fn send(&self, to: &InstanceId, input: Input, payload: Payload) -> Result<(), ClientError> {
        let mut input = input;
        if let Some(note) = &self.note {
            input.set_by(&note.actor);
        }
        self.send_message(to, &Message::new(input, payload)).await
    }

    /// As [`send`](Self::send), for a message that may be for one execution alone.
    pub(super) async fn send_message(&self, to: &InstanceId, message: &Message) -> Result<(), ClientError> {
        self.check_running(Some(to))?;
        let (act, message) = (Act::of(&message.input), MessageRow::from(message));
        let _hold = self.clock.hold();
        let (local, time) = (self.local.as_ref(), self.clock.now());
        let lease = local.map(NodeHandle::lease);
        let request = SendRequest { to: to.clone(), message: message.clone(), lease, time, resent: false };
        let submission = self.audited(act, Submission::Send(request));
        let submitted = self.submit_for(local, to, submission).await?;
        if let Some(local) = local {
            local.deliver(submitted, to.clone(), message);
        }
        Ok(())
    }

    /// Refuses a payload that exceeds the limit. `subject` names it in the error.
    pub(super) fn check_size(
        &self,
        instance: &InstanceId,
        subject: &str,
        payload: &Payload,
    ) -> Result<(), ClientError> {
        let refused = |reason| ClientError::refused(instance, ErrorCode::PayloadTooLarge, reason);
        let option = if self.local.is_some() { Limits::OPTION } else { "Client::with_limits" };
        self.limits.check_by(subject, payload, option).map_err(refused)
    }
}
