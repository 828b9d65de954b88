//! All rows of one instance, to be written to another storage.

use super::{Client, ClientError};
use crate::history::{Started, TextMap};
use crate::id::{CommitId, ExecutionId, InstanceId, MessageId};
use crate::payload::Payload;
use crate::provider::{
    CopiedInstance, EarlierExecution, EventRow, Graft, GraftTarget, InstanceRecord, InstanceRows, NewInstance,
    StoredMessage,
};

/// An instance with its histories and all other rows.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) record: InstanceRecord,
    pub(crate) rows: InstanceRows,
    /// The history of its execution. Those of earlier ones are in `rows`.
    pub(crate) history: Vec<EventRow>,
}

impl Client {
    /// Reads all rows of an instance, at one moment. Returns `None` if there is no such instance.
    ///
    /// The reads are several. They are repeated if the instance has advanced in between.
    pub(crate) async fn snapshot(&self, id: &InstanceId) -> Result<Option<Snapshot>, ClientError> {
        let admin = self.admin()?;
        loop {
            let Some(mut rows) = self.ask(|| admin.rows(id)).await? else { return Ok(None) };
            let mut history = self.events(&rows.execution).await?;
            history.truncate(history.partition_point(|event| event.id <= rows.last_event));
            for earlier in &mut rows.state.earlier {
                let execution = ExecutionId { number: earlier.number, ..rows.execution.clone() };
                earlier.history = self.events(&execution).await?;
            }
            let Some(record) = self.ask(|| self.provider.instance(id)).await? else { return Ok(None) };
            if (&record.execution, record.last_event) == (&rows.execution, rows.last_event) {
                return Ok(Some(Snapshot { record, rows, history }));
            }
        }
    }
}

impl Snapshot {
    /// Returns the submission that writes the instance to another storage.
    pub(crate) fn graft(&self) -> Graft {
        let Self { record, rows, history } = self;
        let ExecutionId { instance, identity, number } = &rows.execution;
        let started = Started {
            name: record.name.clone(),
            version: None,
            seed: 0,
            parent: record.parent.clone(),
            headers: TextMap::new(),
            labels: record.labels.clone(),
            request: None,
        };
        // Only the id of the start gives the identity: the start itself is among the events or the messages.
        let mut new = NewInstance::started(instance.clone(), started, Payload::NULL, false);
        new.start.id = MessageId(identity.0);
        let copied = CopiedInstance {
            new,
            execution: *number,
            state: rows.state.clone(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            finished_at: record.finished_at,
        };
        Graft {
            id: CommitId::new(),
            target: GraftTarget::New(Box::new(copied)),
            version: record.version.clone(),
            history: history.clone(),
            activities: rows.activities.clone(),
            messages: rows.messages.clone(),
            starts: Vec::new(),
            outgoing: Vec::new(),
            time: record.updated_at,
        }
    }

    /// Returns true if another storage holds the same instance, except for what every storage counts on its own.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let form = |of: &Self| {
            let Self { record, rows, history } = of;
            let key = (rows.execution.clone(), record.name.clone(), record.version.clone(), record.labels.clone());
            let times = (record.created_at, record.updated_at, record.finished_at);
            let state = (rows.state.clone(), record.parent.clone());
            (key, state, times, history.clone(), rows.activities.clone())
        };
        form(self) == form(other) && numberless(&self.rows.messages) == numberless(&other.rows.messages)
    }
}

/// Returns messages without their numbers.
fn numberless(messages: &[StoredMessage]) -> Vec<StoredMessage> {
    let mut messages = messages.to_vec();
    messages.iter_mut().for_each(|message| message.row.number = None);
    messages
}

/// Returns the executions of an instance with their histories, oldest first.
pub(crate) fn executions(snapshot: &Snapshot) -> impl Iterator<Item = (u64, &[EventRow])> {
    let earlier =
        snapshot.rows.state.earlier.iter().map(|EarlierExecution { number, history, .. }| (*number, &history[..]));
    earlier.chain([(snapshot.rows.execution.number, &snapshot.history[..])])
}
