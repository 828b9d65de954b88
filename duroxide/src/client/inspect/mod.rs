//! Inspects one instance: its state, its open waits, its activities and their failed attempts.

mod fact;
mod stalled;
#[cfg(test)]
mod tests;
mod text;
mod unread;
mod waits;
mod why;

pub use self::fact::Fact;
pub use self::unread::UnreadEvents;
pub use self::waits::{OpenWait, Waiting};
pub use self::why::{Action, Blame, Why, WhyState};

use self::unread::unread_events;
use self::waits::made_together;
#[cfg(feature = "testing")]
pub(crate) use self::waits::open_waits;
#[cfg(not(feature = "testing"))]
use self::waits::open_waits;
use super::{Client, ClientError, Status};
use crate::clock::Timestamp;
use crate::history::{EventKind, HistoryEvent, Input};
use crate::id::{Epoch, InstanceId};
use crate::message::Lane;
use crate::provider::{DepartedNode, InstanceActivities, MessagePreview, MessagePreviews, NodeRecord};

/// The longest chain of children that [`Client::why`] follows.
const DEPTH: usize = 16;

/// The facts about one instance, of about one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// Its status.
    pub status: Status,
    /// The node that owns it.
    pub owner: Option<Epoch>,
    /// The calls of the current execution without an outcome, in their order. Empty once the instance has finished.
    pub waits: Vec<OpenWait>,
    /// The number of calls that were made together with the open ones, including these: in the same steps, of the same
    /// kinds.
    pub made: usize,
    /// Its activities that have not ended, and the failed attempts of all.
    pub activities: InstanceActivities,
    /// The external events that the code has not read, by name, the first ones first. Empty once the instance has finished.
    /// There may be a few more in the history: a wait that finds an event at once is not recorded, so each call that is missing
    /// in the history counts as one.
    pub unread: Vec<UnreadEvents>,
    /// True if the instance has more messages than were read, which may be further unread events: at most
    /// [`LIMIT`](MessagePreviews::LIMIT) are read.
    pub more_messages: bool,
    /// The time at which the instance begins, if its start is delayed and it has not begun.
    pub begins_at: Option<Timestamp>,
    /// The last event of the current execution. It holds the outcome if the instance has finished.
    pub last: Option<HistoryEvent>,
    /// The author of the last request to cancel or terminate in the history, if it is recorded.
    pub ended_by: Option<String>,
    /// The nodes that are alive.
    pub nodes: Vec<NodeRecord>,
    /// The nodes that have departed, the last one first. Empty unless no live node can run the instance, or an activity of
    /// it, or its owner is gone.
    pub departed: Vec<DepartedNode>,
    /// The time of the inspection, by the clock of the client.
    pub now: Timestamp,
}

impl Client {
    /// Reads the facts about an instance: its open waits with their places in the source, its activities, and the failed
    /// attempts with their errors. It reads the history of the current execution, and so costs more than
    /// [`Handle::status`](crate::Handle::status).
    ///
    /// ```
    /// use duroxide::prelude::*;
    ///
    /// async fn errors(client: &Client, id: &str) -> duroxide::Result<Vec<String>> {
    ///     let inspection = client.inspect(id).await?;
    ///     Ok(inspection.activities.failed.into_iter().map(|attempt| attempt.failed.error).collect())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, the storage fails, or it does not support inspections
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn inspect(&self, id: impl AsRef<str>) -> Result<Inspection, ClientError> {
        let nodes = self.nodes().await?;
        self.inspect_among(self.handle(id).id()?, nodes).await
    }

    /// Returns the reason why an instance does not advance, in one sentence, with its cause: if it waits for a child, the
    /// chain of children down to the one that waits for something else.
    ///
    /// ```
    /// use duroxide::prelude::*;
    ///
    /// async fn report(client: &Client, id: &str) -> duroxide::Result<()> {
    ///     let why = client.why(id).await?;
    ///     // It has been waiting for event `Approval` for 3 h, at src/checkout.rs:38:13.
    ///     println!("{id}: {why}");
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn why(&self, id: impl AsRef<str>) -> Result<Why, ClientError> {
        let nodes = self.nodes().await?;
        let mut chain = vec![self.inspect_among(self.handle(id).id()?, nodes.clone()).await?];
        while let Some(child) = chain.last().and_then(why::awaited_child).filter(|_| chain.len() < DEPTH) {
            match self.inspect_among(&child, nodes.clone()).await {
                Ok(inspection) => chain.push(inspection),
                // It has not been created yet, or is removed.
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Why::of(&chain))
    }

    async fn inspect_among(&self, id: &InstanceId, nodes: Vec<NodeRecord>) -> Result<Inspection, ClientError> {
        let admin = self.admin()?;
        let record = self.record(id).await?;
        let activities = self.ask(|| admin.activities(id)).await?.unwrap_or_default();
        let messages = match record.status.is_finished() {
            true => MessagePreviews::default(),
            false => self.ask(|| admin.messages(id)).await?.unwrap_or_default(),
        };
        // An event that cannot be read must not hide the others.
        let events = self.events(&record.execution).await?;
        let events: Vec<_> = events.into_iter().filter_map(|row| HistoryEvent::try_from(row).ok()).collect();
        let owner = record.owner;
        // A node that was read before may have joined since. Read again, it is gone if it is missing.
        let is_unknown = owner.is_some_and(|owner| nodes.iter().all(|node| node.epoch != owner));
        let nodes = if is_unknown { self.nodes().await? } else { nodes };
        let status = Status::from(record);
        let waits = match status.status.is_finished() {
            true => Vec::new(),
            false => open_waits(&status.execution, &events),
        };
        let made = made_together(&status.execution, &waits, &events);
        let requests = events.iter().rev().filter_map(|event| match &event.kind {
            EventKind::Input(input @ (Input::CancelRequested { .. } | Input::TerminateRequested { .. })) => Some(input),
            EventKind::Input(input @ Input::Started(_)) => Some(input),
            _ => None,
        });
        let ended_by = requests.filter_map(Input::by).next().map(str::to_owned);
        let is_gone = owner.is_some_and(|owner| nodes.iter().all(|node| node.epoch != owner));
        let departed = match status.unclaimed.is_some() || is_gone {
            true => self.departed_nodes(DepartedNode::KEPT).await?,
            false => Vec::new(),
        };
        let delayed = |message: &&MessagePreview| message.lane == Lane::Start;
        let begins_at = messages.messages.iter().find(delayed).and_then(|start| start.visible_at);
        let unread = match status.status.is_finished() {
            true => Vec::new(),
            false => unread_events(&events, &messages.messages),
        };
        Ok(Inspection {
            unread,
            more_messages: messages.more,
            begins_at,
            last: events.last().cloned(),
            now: self.now(),
            status,
            owner,
            waits,
            made,
            activities,
            ended_by,
            nodes,
            departed,
        })
    }
}
