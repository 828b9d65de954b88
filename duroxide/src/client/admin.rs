//! Looking at many instances, and removing them.

use super::{Client, ClientError, Status};
use crate::clock::Timestamp;
use crate::error::ErrorCode;
use crate::provider::{Admin, Filter, NodeRecord, Page, PageToken};

/// A part of a list of instances, newest first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InstanceList {
    /// The instances.
    pub instances: Vec<Status>,
    /// The token of the next page, for [`Page::after`], unless all instances have been searched. The next page may turn out to
    /// be empty.
    pub next: Option<PageToken>,
    /// How many instances the search looked at.
    pub searched: u64,
    /// False when the time limit was reached before the page was full: there may be more instances, and `next` finds them.
    pub complete: bool,
}

impl Client {
    /// Lists instances that match a filter, newest first, in the order in which they arrived at the storage.
    ///
    /// A page is a limit, or a [`Page`] with a token and a time limit; without one, the storage searches for 10 s at most. A
    /// search that reaches its time limit answers with the instances found so far, and says so
    /// ([`InstanceList::complete`]); `next` continues it. Lists stay stable while instances come and go, and hold up no
    /// orchestration. A stored instance that cannot be read in full is listed with [`Status::damaged`].
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
    /// [`ClientError`]: the storage fails for ten seconds, it does not list instances
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)), or it did not make the token
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

    /// Removes finished instances that match a filter and were finished before a time, and executions that were continued
    /// before then; never a live one. Returns how many executions were removed.
    ///
    /// It works in batches of up to 500 removals, oldest arrivals first, and other writes pass between them. A prune for
    /// which nothing is due writes nothing.
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
    /// [`ClientError`]: the storage fails for ten seconds, or it does not prune
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)), or the runtime of this client has stopped. Instances that were removed
    /// until then stay removed.
    ///
    /// # Cancel safety
    /// Dropped while it is awaited, it stops after the current batch. Each instance is removed as a whole or not at all, and
    /// another call removes the rest.
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
                return Ok(removed);
            }
        }
    }

    /// Lists the nodes that are alive, oldest first.
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails for ten seconds, or it does not list nodes
    /// ([`AdminNotSupported`](ErrorCode::AdminNotSupported)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, ClientError> {
        let admin = self.admin()?;
        self.ask(|| admin.nodes()).await
    }

    /// Returns the part of the provider that lists and removes.
    ///
    /// # Errors
    /// [`ClientError`] with [`ErrorCode::AdminNotSupported`] when the provider has none.
    pub(super) fn admin(&self) -> Result<&dyn Admin, ClientError> {
        let code = ErrorCode::AdminNotSupported;
        let refused = || ClientError::invalid(code, format!("{}; {}", code.meaning(), code.remedy()));
        self.provider.admin().ok_or_else(refused)
    }
}
