//! Ending an instance from outside, without its code; and removing it.

use super::submit::Patience;
use super::{Client, ClientError};
use crate::history::{Event, Input};
use crate::id::{CommitId, InstanceId};
use crate::payload::Payload;
use crate::provider::{DeleteError, InstanceStatus, Submission};
use crate::runtime::{Backoff, termination};

impl Client {
    pub(super) async fn terminate(&self, instance: &InstanceId, reason: &str) -> Result<(), ClientError> {
        self.check_running(Some(instance))?;
        let (mut backoff, mut asked) = (Backoff::default(), false);
        loop {
            let record = self.ask(|| self.provider.instance(instance)).await?;
            let record = record.ok_or_else(|| ClientError::not_found(instance))?;
            if asked && record.status == InstanceStatus::Terminated {
                return Ok(());
            }
            if record.status.is_finished() {
                return Err(ClientError::finished(instance, record.status));
            }
            // What cannot be read must not keep it alive: its children are closed as far as they can be told.
            let events = self.events(&record.execution).await?;
            let history: Vec<_> = events.into_iter().filter_map(|row| Event::try_from(row).ok()).collect();
            let turn = termination(&record, &history, reason, self.clock.now());
            let submission = Submission::Terminate { id: CommitId::new(), turn: Box::new(turn) };
            match self.submit(instance, submission).await {
                Ok(_) => {
                    self.ended(instance);
                    return Ok(());
                }
                // It went on meanwhile: what there is now is read and ended. One that never rests would always be ahead, so
                // it is asked, too: then its next turn is the last.
                Err(error) if error.is_conflict() && !asked => {
                    asked = true;
                    self.ask_to_terminate(instance, reason).await?;
                }
                Err(error) if error.is_conflict() => tokio::time::sleep(backoff.next()).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask_to_terminate(&self, instance: &InstanceId, reason: &str) -> Result<(), ClientError> {
        let request = Input::TerminateRequested { reason: reason.to_owned(), parent: None };
        match self.send(instance, request, Payload::NULL).await {
            // Which end it was is seen by who reads it next.
            Err(error) if error.is_finished() => Ok(()),
            sent => sent,
        }
    }

    /// The node of this process need not keep what it has of the instance.
    fn ended(&self, instance: &InstanceId) {
        if let Some(local) = &self.local {
            local.ended(instance.clone());
        }
    }

    pub(super) async fn delete(&self, instance: &InstanceId) -> Result<(), ClientError> {
        self.check_running(Some(instance))?;
        let (admin, mut patience, mut again) = (self.admin()?, Patience::new(), false);
        loop {
            let error = match admin.delete(std::slice::from_ref(instance)).await {
                Ok(mut answers) => match answers.pop() {
                    Some(Err(DeleteError::Live(status))) => return Err(ClientError::live(instance, status)),
                    // The answer to an earlier attempt was lost, perhaps.
                    Some(Err(DeleteError::NotFound)) if !again => return Err(ClientError::not_found(instance)),
                    Some(_) | None => return Ok(()),
                },
                Err(error) => error,
            };
            again = true;
            patience.after(error.into()).await?;
        }
    }
}
