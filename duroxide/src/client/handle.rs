//! A handle to one instance.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::audit::Act;
use super::cut_point::CutPoint;
use super::erase::check_erased;
use super::measure::counted;
use super::wait::Wait;
use super::{BulkReport, Client, ClientError, OutcomeError, RaiseCall, ResetCall, Status, SuspendCall};
use crate::error::{ErrorCode, MAX_MESSAGE, UnreadMessage};
use crate::history::{Decision, EventKind, Failure, HistoryEvent, Input};
use crate::id::{AuditId, CallId, EventId, ExecutionId, Identity, InstanceId, InvalidId};
use crate::orchestration::{Event, Orchestration};
use crate::payload::{Payload, PayloadError, read_input};
use crate::provider::{EventRow, Finished, InstanceRecord, InstanceStatus, Submission};
use crate::telemetry::RequestOperation;

/// A handle to one instance of an orchestration. Cheap to clone.
pub struct Handle<O> {
    client: Client,
    instance: Result<InstanceId, InvalidId>,
    orchestration: PhantomData<fn() -> O>,
}

/// An orchestration whose types are not known here. Its values are JSON.
pub enum Untyped {}

impl Orchestration for Untyped {
    const NAME: &'static str = "";
    type Input = serde_json::Value;
    type Output = serde_json::Value;
    type Error = serde_json::Value;
}

impl<O: Orchestration> Handle<O> {
    /// Waits until the instance has finished, without a time limit, and returns its output.
    ///
    /// # Errors
    /// [`OutcomeError`]: the error of the orchestration, another end of the instance, or the reason why its outcome
    /// cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on the instance.
    pub async fn result(&self) -> Result<O::Output, OutcomeError<O::Error>> {
        let id = self.id()?;
        let mut result = result_of(id, self.client.final_decision(id).await?, read_input, read_input);
        if let Err(OutcomeError::Panicked { orchestration, .. }) = &mut result {
            *orchestration = Some(O::NAME);
        }
        result
    }
}

impl<O> Handle<O> {
    pub(crate) fn new(client: &Client, id: &str) -> Self {
        // Not `InstanceId::new`, which refuses the derived id of a child.
        Self { client: client.clone(), instance: InstanceId::try_from(id.to_owned()), orchestration: PhantomData }
    }

    pub(super) fn of(client: &Client, instance: InstanceId) -> Self {
        Self { client: client.clone(), instance: Ok(instance), orchestration: PhantomData }
    }

    /// Returns the id of the instance.
    ///
    /// # Errors
    /// [`ClientError`] if the handle was created from a text that is not a valid id.
    pub fn id(&self) -> Result<&InstanceId, ClientError> {
        self.instance.as_ref().map_err(|error| error.clone().into())
    }

    /// As [`result`](Handle::result), with types that the caller chooses.
    ///
    /// # Errors
    /// See [`result`](Handle::result).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on the instance.
    pub async fn result_as<T: DeserializeOwned, E: DeserializeOwned>(&self) -> Result<T, OutcomeError<E>> {
        let id = self.id()?;
        result_of(id, self.client.final_decision(id).await?, Payload::decode, Payload::decode)
    }

    /// Waits until the instance has finished, and returns its final status.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, the storage fails, or the runtime of this client has stopped.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on the instance.
    pub async fn wait(&self) -> Result<InstanceStatus, ClientError> {
        self.client.finished(self.id()?).await.map(|finished| finished.status)
    }

    /// Waits until the status of the instance satisfies a condition. The condition is checked at once, and again
    /// whenever the instance finishes, is suspended or is resumed, including changes in another process.
    ///
    /// It is *not* checked on progress: a condition on [`Status::events`], [`Status::version`] or [`Status::unclaimed`]
    /// alone may never be checked again. To follow progress, read [`status`](Handle::status) at intervals, or let an
    /// activity of the orchestration report it.
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::prelude::*;
    ///
    /// /// Returns the reason if the instance is suspended before it has finished.
    /// async fn problem(handle: &Handle<Untyped>) -> duroxide::Result<Option<String>> {
    ///     let is_settled = |status: &duroxide::Status| status.status != InstanceStatus::Running;
    ///     let status = handle.wait_for(is_settled).await?;
    ///     Ok(status.suspension.map(|suspension| suspension.to_string()))
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, the storage fails, or the runtime of this client has stopped.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on the instance.
    pub async fn wait_for(&self, condition: impl Fn(&Status) -> bool) -> Result<Status, ClientError> {
        let id = self.id()?;
        let mut wait = Wait::new(&self.client, id);
        loop {
            // Read first, so that a change that the runtime committed before it stopped is still seen.
            let stopped = self.client.is_stopped();
            // Registers for the next change; its answer may lack a part of the status.
            self.client.watch(id).await?;
            let status = self.status().await?;
            if condition(&status) {
                return Ok(status);
            }
            if stopped {
                return Err(ClientError::stopped(Some(id)));
            }
            wait.for_change().await;
        }
    }

    /// Returns the client, and the current or last execution.
    pub(super) async fn current(&self) -> Result<(&Client, ExecutionId), ClientError> {
        Ok((&self.client, self.record().await?.execution))
    }

    async fn record(&self) -> Result<InstanceRecord, ClientError> {
        self.client.record(self.id()?).await
    }

    /// Reads the status of the instance.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, or the storage fails.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.record().await.map(Status::from)
    }

    /// Sends an external event. Once the call has returned `Ok`, the event is never lost: it is queued, in order, until
    /// the orchestration reads it.
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::prelude::*;
    ///
    /// #[event]
    /// struct Approval { by: String }
    ///
    /// async fn approve(handle: &Handle<Untyped>) -> duroxide::Result<()> {
    ///     handle.raise(Approval { by: "Ada".to_owned() }).header("tenant", "north").await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn raise<E: Event>(&self, event: E) -> RaiseCall {
        RaiseCall::new(&self.client, &self.instance, E::NAME, Payload::encode_readable(&event))
    }

    /// As [`raise`](Handle::raise), by a name that is chosen at run time.
    pub fn raise_named(&self, name: &str, event: &(impl Serialize + ?Sized)) -> RaiseCall {
        RaiseCall::new(&self.client, &self.instance, name, Payload::encode(event))
    }

    /// Sends a request to cancel the instance. An orchestration that has called `ctx.cancelled()` may compensate before
    /// it ends; any other ends as cancelled. A suspended instance handles the request once it is resumed, before the
    /// messages that wait.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, it has finished, the reason has more than 16 KiB, the storage fails,
    /// or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the request may have been carried out or not; the call may be repeated.
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<(), ClientError> {
        let (id, reason) = (self.id()?, reason.into());
        check_reason(id, &reason)?;
        counted(
            RequestOperation::Cancel,
            self.client.send(id, Input::CancelRequested { reason, parent: None, by: None }, Payload::NULL).await,
        )
    }

    /// Ends the instance now, without running its code again: also an instance that is suspended or does not return.
    /// Its parent receives the outcome, and its children are closed by their policies.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, it has finished, the reason has more than 16 KiB, the storage fails,
    /// or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the request may have been carried out or not; the call may be repeated.
    pub async fn terminate(&self, reason: impl Into<String>) -> Result<(), ClientError> {
        let (id, reason) = (self.id()?, reason.into());
        check_reason(id, &reason)?;
        counted(RequestOperation::Terminate, self.client.terminate(id, &reason).await)
    }

    /// Pauses the instance: suspends it until it is resumed, by [`resume`](Handle::resume) or at a time
    /// ([`SuspendCall::until`]). Its code does not run in the meantime. Its activities continue; their outcomes, events and
    /// timers wait. A request to cancel it waits as well; [`terminate`](Handle::terminate) ends it at once. A new version of
    /// the code does not resume it.
    ///
    /// [`Status::suspension`] shows the reason, with the code [`Paused`](ErrorCode::Paused). An instance that is suspended or
    /// paused already is paused with the new reason and the new end.
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::prelude::*;
    ///
    /// async fn hold(client: &Client, handle: &Handle<Untyped>) -> duroxide::Result<()> {
    ///     handle.suspend("the gateway is being moved").until(client.now() + hours(4)).await?;
    ///     // Earlier, if the work is done.
    ///     handle.resume().await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn suspend(&self, reason: impl Into<String>) -> SuspendCall {
        SuspendCall::new(&self.client, &self.instance, reason.into())
    }

    /// Makes delayed work of the instance due now: its start, if that is delayed, and each activity that waits for its next
    /// attempt. Attempts are not counted from scratch. Returns true if there was such work.
    ///
    /// Timers are not woken: the code of an orchestration relies on the time after a sleep, and a recorded timer never
    /// fires before its time. A paused instance stays paused.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, it has finished, the storage fails, or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the request may have been carried out or not; the call may be repeated.
    pub async fn wake(&self) -> Result<bool, ClientError> {
        counted(RequestOperation::Wake, self.client.wake(self.id()?, None).await)
    }

    /// As [`wake`](Handle::wake), for the activity of one call of the current execution; see
    /// [`Inspection::activities`](super::Inspection::activities).
    ///
    /// # Errors
    /// As [`wake`](Handle::wake).
    ///
    /// # Cancel safety
    /// As [`wake`](Handle::wake).
    pub async fn wake_call(&self, call: CallId) -> Result<bool, ClientError> {
        counted(RequestOperation::Wake, self.client.wake(self.id()?, Some(call)).await)
    }

    /// Lets a suspended or paused instance run again.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, it has finished, the storage fails, or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the request may have been carried out or not; the call may be repeated.
    pub async fn resume(&self) -> Result<(), ClientError> {
        let id = self.id()?;
        self.client.check_running(Some(id))?;
        let submission = Submission::Resume { instance: id.clone(), time: self.client.clock.now() };
        let submission = self.client.audited(Act::named("resume"), submission);
        counted(RequestOperation::Resume, self.client.submit(id, submission).await)?;
        tracing::info!(instance = %id, "instance resumed");
        Ok(())
    }

    /// Removes a message that the orchestration has not read, for example an event of a type that its reader cannot decode.
    /// The reason of the suspension names it: [`Suspension::unread`](crate::error::Suspension::unread). The instance
    /// continues after [`resume`](Handle::resume). To replace an event, also raise a right one: it is read after the
    /// events of its name that wait already.
    ///
    /// Starts, timers and outcomes of calls cannot be removed, since the instance would wait for them forever.
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::prelude::*;
    ///
    /// async fn skip_bad_event(handle: &Handle<Untyped>) -> duroxide::Result<()> {
    ///     if let Some(unread) = handle.status().await?.suspension.and_then(|suspension| suspension.unread) {
    ///         handle.drop_message(unread).await?;
    ///         handle.resume().await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance or no such message ([`MessageNotFound`](ErrorCode::MessageNotFound)),
    /// the instance has finished or continued as new in the meantime, the storage fails, or the runtime has stopped. If the
    /// storage has failed during the call and the call was retried, `MessageNotFound` may mean that the first attempt has
    /// removed the message.
    ///
    /// # Cancel safety
    /// If the future is dropped, the message may have been removed or not; the call may be repeated.
    pub async fn drop_message(&self, message: UnreadMessage) -> Result<(), ClientError> {
        counted(RequestOperation::DropMessage, self.client.drop_message(self.id()?, message).await)
    }

    /// Resets the instance to an event of its history, or to a [`CutPoint`]: the events up to this one become a new execution,
    /// which continues from there. A live, a suspended and a finished instance can be reset. The old execution is kept until
    /// it is pruned.
    ///
    /// The event must end a step, and the step must not end the execution; the error names the nearest such events. Event 0
    /// is the beginning: the function runs from scratch, in its latest version.
    ///
    /// - Calls that are open at the event are made again: activities run again, with another
    ///   [idempotency key](crate::ActivityContext::idempotency_key), timers keep their due times, children are started
    ///   again under another id. See [`ResetCall::keep_outcomes`].
    /// - External events that were recorded after the event are received again, in their order. A cancel request after the
    ///   event is not.
    /// - Open children of the old execution are closed by their policies. A child whose id was chosen by the code must not be
    ///   open at the event.
    /// - Later outcomes of the old execution's calls are ignored.
    /// - A parent or a client that has received the outcome of the instance does not receive another one.
    ///
    /// [`ResetCall::dry_run`] returns these effects without the reset.
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::id::EventId;
    /// use duroxide::prelude::*;
    ///
    /// /// Resets an instance whose code no longer fits its history.
    /// async fn before_the_mismatch(handle: &Handle<Untyped>, event: EventId) -> duroxide::Result<()> {
    ///     let reset = handle.reset(event).keep_outcomes();
    ///     let plan = reset.dry_run().await?;
    ///     println!("{plan}");
    ///     reset.expect(&plan).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance; the event does not end a step ([`NotAStep`](ErrorCode::NotAStep)); the
    /// history has no place that the cut point describes ([`NoCutPoint`](ErrorCode::NoCutPoint)); the instance has advanced
    /// since the dry run, or advances all the time ([`InstanceChanged`](ErrorCode::InstanceChanged)); its history cannot be read; the storage fails or has no [`Admin`](crate::provider::Admin); or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped after its first poll, the instance may have been reset or not.
    pub fn reset(&self, to: impl Into<CutPoint>) -> ResetCall {
        ResetCall::new(&self.client, &self.instance, to.into())
    }

    /// Removes the instance with its history. Only a finished instance can be removed.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, it has not finished, the storage fails or does not delete
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)), or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the request may have been carried out or not; the call may be repeated.
    pub async fn delete(&self) -> Result<(), ClientError> {
        counted(RequestOperation::Delete, self.client.delete(self.id()?).await)
    }

    /// Erases the values of the instance, in the histories of all executions: inputs, outputs, errors, events, headers, messages
    /// of failures, reasons, and the errors of failed attempts. Only a finished instance can be erased. Returns the receipt:
    /// the id of the entry in the audit ([`Client::audit`]), which is written even if the client has no note.
    ///
    /// Each value becomes a tombstone ([`Payload::receipt`]). The structure stays: names, times, ids, labels, places, authors.
    /// [`result`](Handle::result) then fails with [`Erased`](ErrorCode::Erased), and the instance can be neither reset nor
    /// forked.
    ///
    /// An instance that was erased before is not changed, and the receipt is the earlier one. The executions are erased one by
    /// one, each in one step. If the call fails in between, repeat it.
    ///
    /// Children are instances of their own; see [`erase_tree`](Handle::erase_tree).
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::prelude::*;
    ///
    /// async fn forget(handle: &Handle<Untyped>) -> duroxide::Result<()> {
    ///     println!("erased: receipt {}", handle.erase().await?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance; it has not finished, or has detached activities that have not ended
    /// ([`InstanceLive`](ErrorCode::InstanceLive)); an event cannot be read; the storage fails or has no
    /// [`Admin`](crate::provider::Admin); or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, none, some or all executions may have been erased; the call may be repeated.
    pub async fn erase(&self) -> Result<AuditId, ClientError> {
        counted(RequestOperation::Erase, self.client.erase_instance(self.id()?).await)
    }

    /// As [`erase`](Handle::erase), for all descendants of the instance and then for the instance itself: its children, also
    /// detached ones, and theirs. Descendants that have not finished are skipped and counted, and so is the instance itself;
    /// the call may be repeated. The entries of the audit name the [batch](super::BulkReport::batch).
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::prelude::*;
    ///
    /// async fn forget(handle: &Handle<Untyped>) -> duroxide::Result<()> {
    ///     let report = handle.erase_tree().await?;
    ///     println!("{} erased, {} still live, {} failed", report.done, report.skipped, report.failed);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, the storage fails or has no [`Admin`](crate::provider::Admin), or the
    /// runtime has stopped. The failure of one instance is listed in the report.
    ///
    /// # Cancel safety
    /// If the future is dropped, none, some or all instances may have been erased; the call may be repeated.
    pub async fn erase_tree(&self) -> Result<BulkReport, ClientError> {
        counted(RequestOperation::Erase, self.client.erase_tree(self.id()?).await)
    }

    /// Reads the history of the current or last execution.
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, the storage fails, or an event cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn history(&self) -> Result<Vec<HistoryEvent>, ClientError> {
        let execution = self.record().await?.execution;
        self.client.history(&execution).await
    }

    /// Reads the history of one execution of the instance by its number, from 1. Empty if the execution does not exist
    /// or was pruned.
    ///
    /// # Errors
    /// As [`history`](Handle::history).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn history_of(&self, number: u64) -> Result<Vec<HistoryEvent>, ClientError> {
        let current = self.record().await?.execution;
        self.client.history(&ExecutionId { number, ..current }).await
    }
}

impl Client {
    /// Waits until an instance has finished. Boxed, so that it is compiled once and not for every orchestration.
    fn finished<'a>(&'a self, id: &'a InstanceId) -> BoxFuture<'a, Result<Arc<Finished>, ClientError>> {
        Box::pin(async move {
            let mut wait = Wait::new(self, id);
            // While the live copy of the local node is up to date, the instance has not finished, and the storage is not read.
            let mut end = wait.while_live_here().await;
            let mut awaited = None::<Identity>;
            loop {
                // The end of an earlier instance with this id may be signalled late.
                if let Some(finished) = end.filter(|end| awaited.is_none_or(|awaited| end.identity.matches(awaited))) {
                    return Ok(finished);
                }
                // Read first, so that an end that the runtime committed before it stopped is still seen.
                let stopped = self.is_stopped();
                let InstanceRecord { execution, status, outcome, .. } = self.watch(id).await?;
                let identity = execution.identity;
                if status.is_finished() {
                    return Ok(Arc::new(Finished { identity, status, outcome }));
                }
                awaited = Some(identity);
                if stopped {
                    return Err(ClientError::stopped(Some(id)));
                }
                end = wait.for_change().await;
            }
        })
    }

    /// Reads an instance, so that each later change is signalled, including one by another process.
    async fn watch(&self, id: &InstanceId) -> Result<InstanceRecord, ClientError> {
        self.ask(|| self.provider.watch(id)).await?.ok_or_else(|| ClientError::not_found(id))
    }

    pub(super) async fn record(&self, id: &InstanceId) -> Result<InstanceRecord, ClientError> {
        self.ask(|| self.provider.instance(id)).await?.ok_or_else(|| ClientError::not_found(id))
    }

    /// Waits until the instance has ended, and returns the end with its payload.
    async fn final_decision(&self, id: &InstanceId) -> Result<(Decision, Payload), ClientError> {
        let finished = self.finished(id).await?;
        let unreadable = |error: &dyn fmt::Display| ClientError::unreadable(id, "its outcome", error);
        let row = finished.outcome.clone().ok_or_else(|| unreadable(&"the last event is missing"))?;
        let event = HistoryEvent::try_from(row).map_err(|error| unreadable(&error))?;
        match event.kind {
            EventKind::Decision(decision) => Ok((decision, event.payload)),
            EventKind::Input(_) => Err(unreadable(&"the last event does not end it")),
        }
    }

    /// Reads all events of an execution.
    pub(super) async fn history(&self, execution: &ExecutionId) -> Result<Vec<HistoryEvent>, ClientError> {
        let unreadable = |e| ClientError::unreadable(&execution.instance, "its history", &e);
        self.events(execution).await?.into_iter().map(|row| HistoryEvent::try_from(row).map_err(unreadable)).collect()
    }

    /// Reads all events of an execution, as they are stored.
    pub(super) async fn events(&self, execution: &ExecutionId) -> Result<Vec<EventRow>, ClientError> {
        let mut events: Vec<EventRow> = Vec::new();
        loop {
            let after = events.last().map_or(EventId(0), |event| event.id);
            let page = self.ask(|| self.provider.history(execution, after)).await?;
            events.extend(page.events);
            if !page.more {
                return Ok(events);
            }
        }
    }
}

/// Reads a value of a type.
type Read<T> = fn(&Payload) -> Result<T, PayloadError>;

/// Converts the end of an instance into its result.
fn result_of<T, E>(
    id: &InstanceId,
    (decision, payload): (Decision, Payload),
    output: Read<T>,
    error: Read<E>,
) -> Result<T, OutcomeError<E>> {
    check_erased(id, &payload)?;
    let unreadable = |part: &str, error: &dyn fmt::Display| ClientError::unreadable(id, part, error);
    Err(match decision {
        Decision::Completed => return output(&payload).map_err(|e| unreadable("its output", &e).into()),
        Decision::Failed { failure: Failure::Application } => {
            OutcomeError::Failed(error(&payload).map_err(|e| unreadable("its error", &e))?)
        }
        Decision::Failed { failure: Failure::Panicked { message } } => {
            OutcomeError::Panicked { orchestration: None, instance: id.clone(), message }
        }
        Decision::Failed { failure: Failure::Rejected { reason } } => OutcomeError::Rejected { reason },
        Decision::Cancelled { reason } => OutcomeError::Cancelled { reason },
        Decision::Terminated { reason, .. } => OutcomeError::Terminated { reason },
        other => unreadable("its outcome", &format!("{other:?}")).into(),
    })
}

/// Refuses a reason that is too long to be stored.
pub(super) fn check_reason(instance: &InstanceId, reason: &str) -> Result<(), ClientError> {
    if reason.len() <= MAX_MESSAGE {
        return Ok(());
    }
    let problem = format!("the reason has {} bytes; the limit is {MAX_MESSAGE}", reason.len());
    Err(ClientError::refused(instance, ErrorCode::PayloadTooLarge, problem))
}

impl<O> Clone for Handle<O> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), instance: self.instance.clone(), orchestration: PhantomData }
    }
}

impl<O> fmt::Debug for Handle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("instance", &self.instance).finish_non_exhaustive()
    }
}
