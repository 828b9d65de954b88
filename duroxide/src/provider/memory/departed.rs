//! Nodes that have departed, and the builds that nodes had.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::state::{Build, State};
use super::*;

/// Returns the description of a node for a list.
pub(super) fn without_code(info: &NodeInfo) -> NodeInfo {
    let details = NodeDetails { code: Arc::default(), ..info.details.clone() };
    NodeInfo { details, ..info.clone() }
}

impl State {
    /// Records a node whose membership has ended.
    pub(super) fn departed(&mut self, epoch: Epoch, info: NodeInfo, cause: Departure) {
        let left_at = self.latest;
        self.see_build(&info.build);
        let node = NodeRecord::departed(without_code(&info), epoch, left_at);
        self.departed.push_back(DepartedNode { node, left_at, seen_at: left_at, cause });
        let age = std::time::Duration::from_secs(DepartedNode::KEPT_DAYS * 86_400);
        self.departed.retain(|departed| departed.left_at + age >= left_at);
        let surplus = self.departed.len().saturating_sub(DepartedNode::KEPT);
        self.departed.drain(..surplus);
    }

    pub(super) fn departed_nodes(&self, limit: usize) -> Vec<DepartedNode> {
        self.departed.iter().rev().take(limit).cloned().collect()
    }

    /// Records the build of a node that joins.
    pub(super) fn record_build(&mut self, info: &NodeInfo) {
        if info.details.code.is_empty() {
            return;
        }
        let first_seen = self.latest.max(info.details.started_at.unwrap_or_default());
        self.builds.entry(info.build.clone()).or_insert_with(|| Build {
            code: info.details.code.clone(),
            orchestrations: info.handlers.orchestrations.clone(),
            first_seen,
            last_seen: first_seen,
            seen: 0,
        });
        self.see_build(&info.build);
    }

    fn see_build(&mut self, build: &str) {
        let next = self.builds.values().map(|build| build.seen).max().unwrap_or_default() + 1;
        if let Some(build) = self.builds.get_mut(build) {
            (build.seen, build.last_seen) = (next, build.last_seen.max(self.latest));
        }
    }

    /// Removes the builds that are neither new nor in use.
    pub(super) fn prune_builds(&mut self) {
        let surplus: Vec<_> = self.newest_builds().into_iter().skip(BuildRecord::KEPT).collect();
        if surplus.is_empty() {
            return;
        }
        let live = self.instances.values().filter(|instance| !instance.status.is_finished());
        let live: HashSet<_> =
            live.filter_map(|instance| Some((instance.name.clone(), instance.version.clone()?))).collect();
        let needed: HashSet<_> = live
            .iter()
            .filter_map(|code| self.newest_builds().into_iter().find(|b| self.builds[b].orchestrations.contains(code)))
            .collect();
        for build in surplus {
            if !needed.contains(&build) && self.members_with(&build) == 0 {
                self.builds.remove(&build);
            }
        }
    }

    fn newest_builds(&self) -> Vec<String> {
        let mut builds: Vec<_> = self.builds.keys().cloned().collect();
        builds.sort_by_key(|build| Reverse(self.builds[build].seen));
        builds
    }

    fn members_with(&self, build: &str) -> u64 {
        self.nodes.values().filter(|node| !node.dead && node.info.build == build).count() as u64
    }

    pub(super) fn builds(&self) -> Vec<BuildRecord> {
        let record = |build: String| {
            let Build { code, first_seen, last_seen, .. } = &self.builds[&build];
            let (first_seen, last_seen, members) = (*first_seen, *last_seen, self.members_with(&build));
            BuildRecord { build, code: (**code).clone(), first_seen, last_seen, members, damaged: None }
        };
        self.newest_builds().into_iter().map(record).collect()
    }
}
