//! Looking at many instances, and removing them.

use super::{Client, ClientError, Status};
use crate::clock::Timestamp;
use crate::provider::{Filter, NodeRecord, Page, PageToken};

/// A part of a list of instances, newest first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InstanceList {
    /// The instances.
    pub instances: Vec<Status>,
    /// Where to go on, if there is more: hand it to the next call of [`Client::list`].
    pub next: Option<PageToken>,
}

impl Client {
    /// Lists instances that match a filter, newest first: up to `limit` behind `after`. Stable while instances come and go.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::provider::{Filter, MemoryProvider};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let client = Client::new(MemoryProvider::new());
    /// let filter = Filter { name: Some("checkout".into()), ..Filter::default() };
    /// let mut list = client.list(&filter, 100, None).await?;
    /// while let Some(token) = list.next {
    ///     list = client.list(&filter, 100, Some(token)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`] when the storage fails.
    pub async fn list(
        &self,
        filter: &Filter,
        limit: usize,
        after: Option<PageToken>,
    ) -> Result<InstanceList, ClientError> {
        let page = Page { limit, after };
        let page = self.ask(|| self.provider.list(filter, &page)).await?;
        Ok(InstanceList { instances: page.instances.into_iter().map(Status::from).collect(), next: page.next })
    }

    /// Removes finished instances that match a filter and were finished before a time, and executions that were continued
    /// before then; never a live one. Returns how many executions were removed.
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
    /// [`ClientError`] when the storage fails, or the runtime of this client has stopped; what was removed until then stays
    /// removed.
    pub async fn prune(&self, filter: &Filter, before: impl Into<Timestamp>) -> Result<u64, ClientError> {
        self.check_running(None)?;
        let before = before.into();
        const BATCH: usize = 500;
        let mut removed = 0;
        loop {
            match self.ask(|| self.provider.prune(filter, before, BATCH)).await? {
                0 => return Ok(removed),
                n => removed += n,
            }
        }
    }

    /// Lists the nodes that are alive.
    ///
    /// # Errors
    /// [`ClientError`] when the storage fails.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, ClientError> {
        self.ask(|| self.provider.nodes()).await
    }
}
