//! Terminates an instance without its code, and deletes an instance.

use super::audit::Act;
use super::{Client, ClientError};
use crate::backoff::Backoff;
use crate::effect::termination;
use crate::history::{HistoryEvent, Input};
use crate::id::{CommitId, InstanceId};
use crate::payload::Payload;
use crate::provider::{DeleteError, InstanceStatus, ProviderError, Submission};

impl Client {
    pub(super) async fn terminate(&self, instance: &InstanceId, reason: &str) -> Result<(), ClientError> {
        self.check_running(Some(instance))?;
        let (mut backoff, mut requested) = (Backoff::default(), false);
        loop {
            let record = self.ask(|| self.provider.instance(instance)).await?;
            let record = record.ok_or_else(|| ClientError::not_found(instance))?;
            if requested && record.status == InstanceStatus::Terminated {
                return Ok(());
            }
            if record.status.is_finished() {
                return Err(ClientError::finished(instance, record.status));
            }
            // An event that cannot be read must not keep the instance alive. A child that only such an event names is
            // not closed.
            let events = self.events(&record.execution).await?;
            let history: Vec<_> = events.into_iter().filter_map(|row| HistoryEvent::try_from(row).ok()).collect();
            let turn = termination(&record, &history, reason, self.actor(), self.clock.now());
            let submission = Submission::Terminate { id: CommitId::new(), turn: Box::new(turn) };
            let act = Act { reason: Some(reason), ..Act::named("terminate") };
            let submission = self.audited(act, submission);
            match self.submit(instance, submission).await {
                Ok(_) => {
                    self.count_terminated(&record.name, record.version.as_ref());
                    self.left(instance);
                    return Ok(());
                }
                // The instance has advanced in the meantime: retry with its new state. A busy instance could stay ahead
                // of us forever, so we also send it a request to terminate, which ends it on its next turn.
                Err(error) if error.is_conflict() && !requested => {
                    requested = true;
                    self.request_termination(instance, reason).await?;
                }
                Err(error) if error.is_conflict() => tokio::time::sleep(backoff.next()).await,
                // The request may have ended it since it was read.
                Err(error) if error.is_finished() && requested => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request to terminate, which the next turn of the instance carries out.
    async fn request_termination(&self, instance: &InstanceId, reason: &str) -> Result<(), ClientError> {
        let request = Input::TerminateRequested { reason: reason.to_owned(), parent: None, by: None };
        match self.send(instance, request, Payload::NULL).await {
            // The caller reads the final status in its next iteration.
            Err(error) if error.is_finished() => Ok(()),
            sent => sent,
        }
    }

    /// Lets the local node drop its live copy of an instance that has ended or was paused.
    pub(super) fn left(&self, instance: &InstanceId) {
        if let Some(local) = &self.local {
            local.instance_ended(instance.clone());
        }
    }

    pub(super) async fn delete(&self, instance: &InstanceId) -> Result<(), ClientError> {
        self.check_running(Some(instance))?;
        let (admin, mut deadline, mut resent) = (self.admin()?, self.retry_deadline(), false);
        let audit = Vec::from_iter(self.entry(Act::named("delete"), Some(instance)));
        loop {
            let error = match admin.delete(std::slice::from_ref(instance), &audit).await {
                Ok(mut answers) => match answers.pop() {
                    Some(Err(DeleteError::Live(status))) => return Err(ClientError::live(instance, status)),
                    // After a resend, an earlier attempt may have deleted it, with its answer lost.
                    Some(Err(DeleteError::NotFound)) if !resent => return Err(ClientError::not_found(instance)),
                    Some(_) => return Ok(()),
                    None => ProviderError::permanent("delete", "the provider did not answer"),
                },
                Err(error) => error,
            };
            resent = true;
            deadline.after(error.into()).await?;
        }
    }
}
