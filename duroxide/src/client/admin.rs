//! Lists and prunes instances, and lists nodes.

use super::audit::Act;
use super::{Client, ClientError, Status};
use crate::clock::Timestamp;
use crate::error::ErrorCode;
use crate::provider::{
    Admin, BuildRecord, DepartedNode, Dimension, Filter, Groups, NodeRecord, Page, PageToken, Subject,
};

/// A page of a list of instances, newest first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InstanceList {
    /// The instances.
    pub instances: Vec<Status>,
    /// The token of the next page, for [`Page::after`]. `None`: all instances have been searched. The next page may be
    /// empty.
    pub next: Option<PageToken>,
    /// The number of instances that the search examined.
    pub searched: u64,
    /// False if the time limit was reached before the page was full. `next` continues the search.
    pub complete: bool,
}

impl Client {
    /// Lists the instances that match a filter, newest first by their arrival at the storage.
    ///
    /// A page is a limit, or a [`Page`] with a token and a time limit; the default time limit is 10 s. A search that
    /// reaches its time limit returns the instances found so far, with [`InstanceList::complete`] set to false; `next`
    /// continues it. Pages stay stable while instances are created and removed, and listing does not delay
    /// orchestrations. A stored instance that cannot be read in full is listed with [`Status::damaged`].
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::provider::{Filter, MemoryProvider, Page};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let client = Client::new(MemoryProvider::new());
    /// let filter = Filter { name: Some("checkout".into()), ..Filter::default() };
    /// let mut list = client.list(&filter, 100).await?;
    /// while let Some(token) = list.next {
    ///     list = client.list(&filter, Page::new(100).after(token)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, it does not list instances
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)), or the token is not one of this storage
    /// ([`InvalidPageToken`](ErrorCode::InvalidPageToken)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn list(&self, filter: &Filter, page: impl Into<Page>) -> Result<InstanceList, ClientError> {
        let (admin, page) = (self.admin()?, page.into());
        let page = self.ask(|| admin.list(filter, &page)).await?;
        let instances = page.instances.into_iter().map(Status::from).collect();
        Ok(InstanceList { instances, next: page.next, searched: page.searched, complete: page.complete })
    }

    /// Removes the instances that match a filter and finished before a time, and the executions that were continued as
    /// new before it. Current executions of live instances are never removed. Returns the number of removed executions.
    ///
    /// A prune runs in batches of up to 500 removals, oldest arrivals first, and other writes run between the batches. The
    /// rows of a large history are removed in parts, which may continue after the call: the history is gone at once.
    /// A prune that finds nothing to remove writes nothing.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::provider::{Filter, MemoryProvider};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let client = Client::new(MemoryProvider::new());
    /// let removed = client.prune(&Filter::default(), client.now() - days(90)).await?;
    /// # assert_eq!(removed, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, it does not prune
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)), or the runtime of this client has stopped. Instances that
    /// were removed before the error stay removed.
    ///
    /// # Cancel safety
    /// If the future is dropped, the prune stops after the current batch. Each instance is removed as a whole or not at
    /// all, and another call removes the rest.
    pub async fn prune(&self, filter: &Filter, before: impl Into<Timestamp>) -> Result<u64, ClientError> {
        self.check_running(None)?;
        let (admin, before) = (self.admin()?, before.into());
        let mut batch = Page::new(500);
        let mut removed = 0;
        loop {
            let pruned = self.ask(|| admin.prune(filter, before, &batch)).await?;
            removed += pruned.executions;
            batch.after = pruned.next;
            if batch.after.is_none() {
                let detail = format!("{removed} executions that ended before {before}");
                self.record_done(Act { detail: Some(&detail), ..Act::named("prune") }).await?;
                return Ok(removed);
            }
        }
    }

    /// Counts instances, activities or timers by some of their properties, with the time of the oldest and the next due
    /// time of each group. Only those of instances that match the filter are counted.
    ///
    /// The count ends after 10 s, and then says so ([`Groups::complete`]); there are at most [`Groups::LIMIT`] groups.
    /// Counting does not delay orchestrations. Finished instances are read only if the filter includes them, so set
    /// [`Filter::statuses`] if they are not of interest.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::provider::{Dimension, Filter, InstanceStatus, MemoryProvider, Subject};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let client = Client::new(MemoryProvider::new());
    /// // The queues.
    /// let by = [Dimension::Name, Dimension::Tag, Dimension::State];
    /// for queue in client.groups(Subject::Activities, &Filter::default(), &by).await?.groups {
    ///     println!("{:?}: {}, oldest since {:?}", queue.key, queue.count, queue.oldest);
    /// }
    /// // The timers that will fire, minute by minute.
    /// let forecast = client.groups(Subject::Timers, &Filter::default(), &[Dimension::Minute]).await?;
    /// # assert!(forecast.groups.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, or it does not count
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn groups(&self, of: Subject, filter: &Filter, by: &[Dimension]) -> Result<Groups, ClientError> {
        let admin = self.admin()?;
        self.ask(|| admin.groups(of, filter, by, Page::DEFAULT_TIME_LIMIT)).await
    }

    /// Lists the nodes that are alive, oldest first.
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, or it does not list nodes
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, ClientError> {
        let admin = self.admin()?;
        self.ask(|| admin.nodes()).await
    }

    /// Lists nodes that were members, the last one to depart first, with the cause. The newest 1,000 are kept, for up to 30
    /// days ([`DepartedNode`]).
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::provider::MemoryProvider;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let client = Client::new(MemoryProvider::new());
    /// for departed in client.departed_nodes(20).await? {
    ///     println!("{}: {:?} at {}", departed.node.info.name, departed.cause, departed.left_at);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, or it does not list nodes
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn departed_nodes(&self, limit: usize) -> Result<Vec<DepartedNode>, ClientError> {
        let admin = self.admin()?;
        self.ask(|| admin.departed_nodes(limit)).await
    }

    /// Lists the builds that nodes had, the one that was seen last first: their functions and events with versions, places
    /// in the source and documentation. The newest 100 are kept, and older ones while they are in use ([`BuildRecord`]).
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::provider::MemoryProvider;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let client = Client::new(MemoryProvider::new());
    /// for build in client.builds().await? {
    ///     println!("{}: {} nodes, last seen {}", build.build, build.members, build.last_seen);
    ///     build.code.entries.iter().for_each(|entry| println!("  {:?} {} {:?}", entry.kind, entry.name, entry.place));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, or it does not list builds
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn builds(&self) -> Result<Vec<BuildRecord>, ClientError> {
        let admin = self.admin()?;
        self.ask(|| admin.builds()).await
    }

    /// Returns the part of the provider that lists and removes instances.
    ///
    /// # Errors
    /// [`ClientError`] with [`ErrorCode::AdminNotSupported`] if the provider does not have it.
    pub(super) fn admin(&self) -> Result<&dyn Admin, ClientError> {
        let code = ErrorCode::AdminNotSupported;
        let refused = || ClientError::invalid(code, format!("{}; {}", code.meaning(), code.remedy()));
        self.provider.admin().ok_or_else(refused)
    }
}
