//! Handing submissions to the provider.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Client, ClientError};
use crate::error::ErrorCode;
use crate::history::Input;
use crate::id::InstanceId;
use crate::message::Message;
use crate::payload::Payload;
use crate::provider::{MessageRow, ProviderError, SendRequest, Submission, SubmitError, Submitted};
use crate::runtime::{Backoff, NodeHandle};

/// How long storage that fails is asked again before the caller is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// The patience of one request.
pub(super) struct Patience {
    begun: tokio::time::Instant,
    backoff: Backoff,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { begun: tokio::time::Instant::now(), backoff: Backoff::default() }
    }

    /// Pauses before the next attempt.
    ///
    /// # Errors
    /// The error itself, when another attempt would not help or patience has run out.
    pub(super) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retryable() || self.begun.elapsed() >= PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(self.backoff.next()).await;
        Ok(())
    }
}

/// A submission of which it is not known whether it happened: given up, or without an answer. The node that would be handed
/// what came of it is told to look for itself, since nobody else will.
struct Uncertain<'a> {
    local: Option<&'a NodeHandle>,
    instance: &'a InstanceId,
}

impl Uncertain<'_> {
    /// There is an answer: what came of it is handed on, or it was refused.
    fn settle(mut self) {
        self.local = None;
    }
}

impl Drop for Uncertain<'_> {
    fn drop(&mut self) {
        if let Some(local) = self.local {
            local.uncertain(self.instance.clone());
        }
    }
}

impl Client {
    /// Asks the storage until there is an answer, for a while.
    pub(super) async fn ask<'a, T>(
        &self,
        question: impl Fn() -> BoxFuture<'a, Result<T, ProviderError>>,
    ) -> Result<T, ClientError> {
        let mut patience = Patience::new();
        loop {
            match question().await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(error.into()).await?,
            }
        }
    }

    /// Submits until there is an answer, for a while: sending the same again is harmless.
    pub(super) async fn submit(
        &self,
        instance: &InstanceId,
        mut submission: Submission,
    ) -> Result<Submitted, ClientError> {
        let mut patience = Patience::new();
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
            patience.after(error).await?;
            submission.mark_resent();
        }
    }

    /// The same, and the answer will be handed on to the node of this process.
    pub(super) async fn submit_for(
        &self,
        local: Option<&NodeHandle>,
        instance: &InstanceId,
        submission: Submission,
    ) -> Result<Submitted, ClientError> {
        let uncertain = Uncertain { local, instance };
        let submitted = self.submit(instance, submission).await;
        if submitted.as_ref().err().is_none_or(|error| !error.is_of_storage()) {
            uncertain.settle();
        }
        submitted
    }

    /// Sends a message to a live instance.
    pub(super) async fn send(&self, to: &InstanceId, input: Input, payload: Payload) -> Result<(), ClientError> {
        self.check_running(Some(to))?;
        let message = MessageRow::from(&Message::new(input, payload));
        let hold = self.clock.hold();
        let (local, time) = (self.local.as_ref(), self.clock.now());
        let lease = local.map(NodeHandle::lease);
        let request = SendRequest { to: to.clone(), message: message.clone(), lease, time, resent: false };
        let submission = Submission::Send(request);
        let submitted = self.submit_for(local, to, submission).await?;
        if let Some(local) = local {
            local.deliver(submitted, to.clone(), message, hold);
        }
        Ok(())
    }

    pub(super) fn check_size(&self, instance: &InstanceId, what: &str, payload: &Payload) -> Result<(), ClientError> {
        let refused = |reason| ClientError::refused(instance, ErrorCode::PayloadTooLarge, reason);
        self.limits.check(what, payload).map_err(refused)
    }
}
