//! Terminates instances without their code, on request of a parent or a client.
//!
//! A request to terminate is a stored message. A turn delivers it if the live copy is idle. Otherwise a node ends the
//! instance from outside: one that no node owns, since it is suspended or no node has its code, and one whose turn is
//! under way, since the turn may never return.

use super::{Answer, Node, Shared};
use crate::backoff::Backoff;
use crate::effect::termination;
use crate::history::{HistoryEvent, Input, Parent};
use crate::id::{CommitId, EventId, ExecutionId, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::provider::{Ending, EventRow, MessageRow, ProviderError, Submission, SubmitError};
use crate::telemetry;

/// The result of a request to terminate.
pub(super) enum Ended {
    /// The instance has ended.
    Done,
    /// The instance has an owner whose next turn delivers the request, or the request was not for this instance.
    Left,
    /// The request cannot be read.
    Unreadable,
}

impl Node {
    /// Ends the instances without an owner that are to be terminated.
    pub(super) fn end_unowned(&mut self, ending: Vec<Ending>) {
        for Ending { execution, message } in ending {
            // A live copy was claimed with this answer, and receives the request with it.
            if !self.live.contains(&execution.instance) {
                self.end(execution, message);
            }
        }
    }

    /// Ends an instance of this node whose turn is under way if one of its messages requests that.
    pub(super) fn end_busy(&mut self, instance: &InstanceId, message: Option<&MessageRow>) {
        let request = message.filter(|message| message.lane == Lane::End);
        if let (Some(message), Some(execution)) = (request, self.live.under_way(instance)) {
            self.end(execution.clone(), message.clone());
        }
    }

    fn end(&mut self, execution: ExecutionId, message: MessageRow) {
        if !self.accepts_work() || !self.endings.begin(message.id) {
            return;
        }
        let (shared, id) = (self.shared.clone(), message.id);
        self.ask(async move {
            let ended = terminate(&shared, &execution, message).await;
            Answer::Ended(execution.instance, id, ended)
        });
    }

    /// Drops the live copy of an instance that was ended, and requests work: the provider may name further instances.
    pub(super) fn was_ended(&mut self, instance: InstanceId, message: MessageId, ended: &Ended) {
        self.endings.end(message);
        match ended {
            Ended::Done => self.instance_ended(instance),
            Ended::Left => self.work.request(),
            Ended::Unreadable => self.endings.skip(message),
        }
    }
}

/// Terminates an instance as a message requests, and repeats the attempt while the storage fails.
async fn terminate(shared: &Shared, execution: &ExecutionId, message: MessageRow) -> Ended {
    let (instance, id) = (&execution.instance, message.id);
    let Ok(Message { input: Input::TerminateRequested { reason, parent, by }, .. }) = Message::try_from(message) else {
        tracing::error!(%instance, message = %id, "a request to terminate cannot be read");
        return Ended::Unreadable;
    };
    let order = Order { message: id, reason, by, parent: parent.map(|parent| *parent) };
    let (mut backoff, mut conflicted) = (Backoff::default(), false);
    loop {
        match attempt(shared, execution, &order, conflicted).await {
            Ok(Some(ended)) => return ended,
            // The instance has advanced in the meantime.
            Ok(None) => conflicted = true,
            Err(error) => {
                tracing::warn!(%error, %instance, "terminating failed; retrying");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// A request to terminate, taken from its message.
struct Order {
    message: MessageId,
    reason: String,
    by: Option<String>,
    parent: Option<Parent>,
}

/// Terminates an instance in the state that is stored now. Returns `None` if the instance has advanced in the meantime.
async fn attempt(
    shared: &Shared,
    execution: &ExecutionId,
    order: &Order,
    conflicted: bool,
) -> Result<Option<Ended>, ProviderError> {
    let Order { message, reason, by, parent } = order;
    let parent = parent.as_ref();
    let instance = &execution.instance;
    let record = shared.provider.instance(instance).await?;
    let record = record.filter(|record| record.execution.identity == execution.identity);
    let Some(record) = record.filter(|record| !record.status.is_finished()) else { return Ok(Some(Ended::Done)) };
    // An instance that advances has an owner.
    if conflicted && record.owner.is_some() {
        return Ok(Some(Ended::Left));
    }
    // The request of a parent is only for its own child.
    let is_for_another = parent.is_some() && record.parent.as_ref() != parent;
    let submission = if is_for_another {
        Submission::Drop { instance: instance.clone(), message: *message }
    } else {
        let history = history(shared, &record.execution).await?;
        let turn = termination(&record, &history, reason, by.clone(), shared.clock.now());
        Submission::Terminate { id: CommitId::new(), turn: Box::new(turn) }
    };
    match shared.provider.submit(vec![submission]).await?.pop() {
        Some(Err(SubmitError::Conflict)) => Ok(None),
        Some(Err(SubmitError::Failed(reason))) => Err(ProviderError::retryable("terminate an instance", reason)),
        _ if is_for_another => Ok(Some(Ended::Left)),
        Some(Ok(_)) => {
            let (name, version) = (record.name.as_str(), record.version.as_ref());
            let known = shared.lookup.orchestration(name, version).map(|_| (name, version));
            telemetry::terminated(known);
            tracing::info!(%instance, "instance terminated without running its code");
            Ok(Some(Ended::Done))
        }
        // It has ended, or was removed, in the meantime.
        _ => Ok(Some(Ended::Done)),
    }
}

/// Reads the events of an execution, except those that cannot be read: such an event must not keep the instance alive. A
/// child that only such an event names is not closed.
async fn history(shared: &Shared, execution: &ExecutionId) -> Result<Vec<HistoryEvent>, ProviderError> {
    let mut events: Vec<EventRow> = Vec::new();
    loop {
        let after = events.last().map_or(EventId(0), |event| event.id);
        let page = shared.provider.history(execution, after).await?;
        events.extend(page.events);
        if !page.more {
            return Ok(events.into_iter().filter_map(|row| HistoryEvent::try_from(row).ok()).collect());
        }
    }
}
