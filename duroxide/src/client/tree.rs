//! The children of an instance, and theirs.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Client, ClientError, Status};
use crate::id::InstanceId;
use crate::provider::{Dimension, Filter, InstanceStatus, Page, Subject};

/// The limits of a [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// The levels of children that are read. Default: 3.
    pub depth: usize,
    /// The most children of one instance that are listed. Default: 20.
    pub width: usize,
    /// The most instances of the whole tree. Default: 500.
    pub instances: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { depth: 3, width: 20, instances: 500 }
    }
}

/// An instance with its children. See [`Client::tree`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tree {
    /// The instance.
    pub status: Status,
    /// The number of its children by status: of all, including those that are not listed. Children of an earlier instance with
    /// this id, which was removed, count as well.
    pub counts: Vec<(InstanceStatus, u64)>,
    /// Some of its children: suspended ones first, then running ones, then those that have failed or were ended, then completed
    /// ones.
    pub children: Vec<Tree>,
    /// True if children are left out, here or below, because of a limit.
    pub is_cut: bool,
}

/// The order in which children are listed.
const BY_INTEREST: [&[InstanceStatus]; 4] = [
    &[InstanceStatus::Suspended],
    &[InstanceStatus::Running],
    &[InstanceStatus::Failed, InstanceStatus::Terminated, InstanceStatus::Cancelled],
    &[InstanceStatus::Completed],
];

impl Client {
    /// Reads an instance with its children and theirs, within limits. Instances that are left out are counted by status.
    ///
    /// Detached starts are not children. The parts are read one after another, and need not be of one moment.
    ///
    /// ```
    /// use duroxide::client::{Tree, TreeLimits};
    /// use duroxide::prelude::*;
    ///
    /// fn print(tree: &Tree, indent: usize) {
    ///     println!("{:indent$}{} {:?}", "", tree.status.execution.instance, tree.counts);
    ///     tree.children.iter().for_each(|child| print(child, indent + 2));
    /// }
    ///
    /// async fn family(client: &Client) -> duroxide::Result<()> {
    ///     print(&client.tree("batch-9", TreeLimits::default()).await?, 0);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, or the storage fails or has no [`Admin`](crate::provider::Admin).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn tree(&self, id: impl AsRef<str>, limits: TreeLimits) -> Result<Tree, ClientError> {
        let id = InstanceId::try_from(id.as_ref().to_owned())?;
        let root = Status::from(self.record(&id).await?);
        let mut left = limits.instances.saturating_sub(1);
        self.subtree(root, limits.depth, limits.width, &mut left).await
    }

    fn subtree<'a>(
        &'a self,
        status: Status,
        depth: usize,
        width: usize,
        left: &'a mut usize,
    ) -> BoxFuture<'a, Result<Tree, ClientError>> {
        async move {
            let parent = status.execution.clone();
            // An earlier instance may have had the id of the parent.
            let identity = Some(parent.identity).filter(|identity| !identity.is_unknown());
            let filter = Filter { parent: Some(parent.instance), parent_identity: identity, ..Filter::default() };
            let mut tree = Tree { status, counts: Vec::new(), children: Vec::new(), is_cut: false };
            let counted = self.groups(Subject::Instances, &filter, &[Dimension::Status]).await?;
            for status in InstanceStatus::ALL {
                let of_status =
                    |key: &[Option<String>]| key.first().and_then(Option::as_deref) == Some(status.as_str());
                let groups = counted.groups.iter().filter(|group| of_status(&group.key));
                let count: u64 = groups.map(|group| group.count).sum();
                if count > 0 {
                    tree.counts.push((status, count));
                }
            }
            let total: u64 = tree.counts.iter().map(|(_, count)| count).sum();
            if depth == 0 || total == 0 {
                tree.is_cut = total > 0;
                return Ok(tree);
            }
            let mut listed = Vec::new();
            for statuses in BY_INTEREST {
                let wanted = width.saturating_sub(listed.len()).min(left.saturating_sub(listed.len()));
                if wanted == 0 || !tree.counts.iter().any(|(status, _)| statuses.contains(status)) {
                    continue;
                }
                let filter = Filter { statuses: statuses.to_vec(), ..filter.clone() };
                listed.extend(self.list(&filter, Page::new(wanted)).await?.instances);
            }
            *left = left.saturating_sub(listed.len());
            tree.is_cut = (listed.len() as u64) < total;
            for child in listed {
                let child = self.subtree(child, depth - 1, width, left).await?;
                tree.is_cut |= child.is_cut;
                tree.children.push(child);
            }
            Ok(tree)
        }
        .boxed()
    }
}
