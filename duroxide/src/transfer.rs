//! Moves all instances from one storage to another: from a SQLite file to PostgreSQL, or between any two providers.
//!
//! No node may be a member of either storage during the move. Each instance is copied by one atomic write,
//! with its identity, so that the idempotency keys of its activities, the links between parents and children, and the outcomes
//! that are on their way stay right. The source is only read. The page [PostgreSQL] has the procedure.
//!
//! [PostgreSQL]: https://github.com/duroxide/duroxide/blob/main/docs/postgres.md#move-from-sqlite
//!
//! ```
//! use std::sync::Arc;
//! use duroxide::provider::MemoryProvider;
//! use duroxide::transfer::Transfer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> duroxide::Result<()> {
//! let (from, to) = (MemoryProvider::new(), MemoryProvider::new());
//! let transfer = Transfer::new(Arc::new(from), Arc::new(to)).replay_with(duroxide::Registry::discover());
//! println!("{}", transfer.dry_run().await?);
//! let report = transfer.run().await?;
//! assert_eq!(report.instances, report.copied + report.found);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Client, ClientError, Snapshot, executions};
use crate::error::{ErrorCode, Suspension};
use crate::history::{EventKind, HistoryEvent, Input};
use crate::id::{ExecutionId, InstanceId, NodeId};
use crate::provider::{Filter, Handlers, NodeInfo, NodeReport, Page, Provider, ProviderError, Renewal, Submission};
use crate::registry::{Kind, Lookup, Registry};
use crate::replay::{Execution, Fault};

/// A move of all instances from one storage to another.
///
/// # Restart
/// A move that was interrupted is repeated as a whole: instances that the target has already, with the same content, are
/// found and not copied again.
pub struct Transfer {
    from: Arc<dyn Provider>,
    to: Arc<dyn Provider>,
    registry: Option<Registry>,
}

/// The numbers of a move.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TransferReport {
    /// The instances of the source.
    pub instances: u64,
    /// The instances of the source that have not finished.
    pub live: u64,
    /// The instances that were copied; in a dry run, that would be.
    pub copied: u64,
    /// The instances that the target had already.
    pub found: u64,
    /// The events, messages and activities of these instances.
    pub events: u64,
    /// Their unread messages, timers among them.
    pub messages: u64,
    /// Their activities that have not ended.
    pub activities: u64,
    /// The histories of live instances that were replayed against the registry.
    pub replayed: u64,
    /// The live instances whose histories the code in the registry cannot repeat. Suspended instances may be among them; a
    /// running one will be suspended by a node of this code, at the target as at the source.
    pub unreplayable: Vec<(InstanceId, Box<Suspension>)>,
}

impl fmt::Display for TransferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instances, live, copied, found, events, messages, activities, replayed, unreplayable } = self;
        writeln!(f, "{instances} instances, {live} of them live: {copied} to copy, {found} found at the target")?;
        writeln!(f, "{events} events, {messages} messages, {activities} activities")?;
        write!(f, "{replayed} histories of live instances replayed, {} cannot be", unreplayable.len())
    }
}

/// The reason why a move has stopped. What was copied until then stays at the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Nodes are members: stop them first. A node that was killed counts for as long as its lease lasts.
    #[error("these nodes still use the {storage}: {}; stop them first", .nodes.join(", "))]
    Nodes {
        /// The storage: `source` or `target`.
        storage: &'static str,
        /// The names of the nodes.
        nodes: Vec<String>,
    },
    /// The target has another instance with this id, or another state of it.
    #[error("the target has an instance {0:?} that differs from that of the source")]
    Differs(InstanceId),
    /// A request to one of the storages has failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A membership of the mover itself has failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl Transfer {
    /// Prepares a move.
    pub fn new(from: Arc<dyn Provider>, to: Arc<dyn Provider>) -> Self {
        Self { from, to, registry: None }
    }

    /// Replays the history of each live instance, as the target returns it, against this code.
    #[must_use]
    pub fn replay_with(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Reads the source, replays its live histories, and compares the instances that the target has. Writes nothing, except that
    /// it joins both storages for a moment to release the items of dead nodes.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn dry_run(&self) -> Result<TransferReport, TransferError> {
        let (from, to) = self.clients().await?;
        let mut report = TransferReport::default();
        for id in ids(&from).await? {
            let Some(source) = from.snapshot(&id).await? else { continue };
            report.count(&source);
            match to.snapshot(&id).await? {
                Some(target) if !target.is_same_as(&source) => return Err(TransferError::Differs(id)),
                Some(_) => report.found += 1,
                None => report.copied += 1,
            }
            self.replay(&source, &mut report);
        }
        Ok(report)
    }

    /// Copies all instances, oldest first, and then compares each of them with that of the source.
    ///
    /// # Errors
    /// [`TransferError`]: nodes still use a storage, including ones that have joined in the meantime; the target has another
    /// instance with the id of one; a storage fails, or has no [`Admin`](crate::provider::Admin).
    ///
    /// # Cancel safety
    /// If the future is dropped, some instances were copied, each as a whole. Another run copies the rest.
    pub async fn run(&self) -> Result<TransferReport, TransferError> {
        let (from, to) = self.clients().await?;
        let mut report = TransferReport::default();
        let ids = ids(&from).await?;
        for id in &ids {
            let Some(source) = from.snapshot(id).await? else { continue };
            if to.snapshot(id).await?.is_some() {
                report.found += 1;
                continue;
            }
            to.submit(id, Submission::Graft(Box::new(source.graft()))).await?;
            report.copied += 1;
        }
        for id in &ids {
            let Some(source) = from.snapshot(id).await? else { continue };
            let target = to.snapshot(id).await?.filter(|target| target.is_same_as(&source));
            let target = target.ok_or_else(|| TransferError::Differs(id.clone()))?;
            report.count(&target);
            self.replay(&target, &mut report);
        }
        // One that has joined in the meantime may have advanced an instance that was copied before.
        check_members("source", &from).await?;
        check_members("target", &to).await?;
        Ok(report)
    }

    /// Returns clients of the source and of the target, once neither has members.
    async fn clients(&self) -> Result<(Client, Client), TransferError> {
        release_dead(&*self.from).await?;
        release_dead(&*self.to).await?;
        let (from, to) = (Client::shared(self.from.clone()), Client::shared(self.to.clone()));
        check_members("source", &from).await?;
        check_members("target", &to).await?;
        Ok((from, to))
    }

    fn replay(&self, snapshot: &Snapshot, report: &mut TransferReport) {
        let Some(registry) = &self.registry else { return };
        if snapshot.rows.state.status.is_finished() || snapshot.history.is_empty() {
            return;
        }
        report.replayed += 1;
        let lookup = registry.lookup_of(|entry| entry.kind() == Kind::Orchestration);
        let unreadable = |error: &dyn fmt::Display| Fault::new(ErrorCode::UnreadableEvent, error.to_string());
        let events = snapshot.history.iter().cloned().map(HistoryEvent::try_from).collect::<Result<Vec<_>, _>>();
        let replayed = events
            .map_err(|error| unreadable(&error))
            .and_then(|events| replay(&lookup, snapshot.rows.execution.clone(), &events));
        if let Err(fault) = replayed {
            report.unreplayable.push((snapshot.rows.execution.instance.clone(), fault.0));
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("replays", &self.registry.is_some()).finish_non_exhaustive()
    }
}

impl TransferReport {
    fn count(&mut self, snapshot: &Snapshot) {
        self.instances += 1;
        self.live += u64::from(!snapshot.rows.state.status.is_finished());
        self.events += executions(snapshot).map(|(_, history)| history.len() as u64).sum::<u64>();
        self.messages += snapshot.rows.messages.len() as u64;
        self.activities += snapshot.rows.activities.len() as u64;
    }
}

/// Replays a recorded history, and returns the execution as it is at its end.
pub(crate) fn replay(lookup: &Lookup, id: ExecutionId, history: &[HistoryEvent]) -> Result<Execution, Fault> {
    let started = history.first().and_then(|event| match &event.kind {
        EventKind::Input(Input::Started(started)) => Some(started),
        _ => None,
    });
    let Some(started) = started else {
        return Err(Fault::new(
            ErrorCode::UnreadableEvent,
            "the history does not begin with the start of an execution",
        ));
    };
    if let Some(receipt) = history.first().and_then(|event| event.payload.receipt()) {
        let message =
            format!("the values of the history were erased, and cannot be replayed; the receipt is {receipt}");
        return Err(Fault::new(ErrorCode::Erased, message));
    }
    let Some(entry) = lookup.orchestration(&started.name, started.version.as_ref()) else {
        let version = started.version.as_ref().map(ToString::to_string).unwrap_or_default();
        let message = format!("orchestration {:?} {version} is not registered", started.name);
        return Err(Fault::new(ErrorCode::VersionNotRegistered, message));
    };
    let mut execution = Execution::new(id, entry.function.clone(), || {});
    crate::telemetry::silenced(|| execution.replay(history))?;
    Ok(execution)
}

/// Takes over what dead nodes own: the mover joins for a moment as a node without code.
async fn release_dead(provider: &dyn Provider) -> Result<(), ProviderError> {
    let info = NodeInfo {
        id: NodeId::new(),
        name: format!("transfer, process {}", std::process::id()),
        build: "transfer".to_owned(),
        handlers: Handlers::default(),
        lease_time: Duration::from_secs(15),
        details: Default::default(),
    };
    let lease = provider.join(&info).await?;
    if let Renewal::Lost = provider.renew(&lease, &NodeReport::default()).await? {
        return Ok(());
    }
    provider.leave(&lease).await
}

async fn check_members(storage: &'static str, client: &Client) -> Result<(), TransferError> {
    let nodes: Vec<String> = client.nodes().await?.into_iter().map(|node| node.info.name).collect();
    if nodes.is_empty() { Ok(()) } else { Err(TransferError::Nodes { storage, nodes }) }
}

/// Returns the ids of all instances, in the order of their arrival.
async fn ids(client: &Client) -> Result<Vec<InstanceId>, ClientError> {
    let (mut ids, mut page) = (Vec::new(), Page::new(1000));
    loop {
        let list = client.list(&Filter::default(), page.clone()).await?;
        ids.extend(list.instances.into_iter().map(|status| status.execution.instance));
        page.after = list.next;
        if page.after.is_none() {
            ids.reverse();
            return Ok(ids);
        }
    }
}
