//! The membership of nodes: joins, renewals, ends and take-overs.

use std::time::Duration;

use super::departed::without_code;
use super::state::{Node, State};
use super::*;

impl State {
    pub(super) fn join(&mut self, info: &NodeInfo) -> Lease {
        // A node that joins again has stopped the work of its earlier memberships.
        let before: Vec<_> = self.nodes.iter().filter(|(_, n)| n.info.id == info.id).map(|(e, _)| *e).collect();
        for epoch in before {
            self.free(epoch, Departure::Fenced);
        }
        self.take_over_dead();
        self.take_back_crashes(info.id);
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        self.record_build(info);
        self.nodes.insert(epoch, Node::new(info.clone(), self.latest));
        self.prune_builds();
        self.settle_rejected();
        Lease { node: info.id, epoch }
    }

    pub(super) fn renew(&mut self, lease: &Lease, report: &NodeReport) -> Renewal {
        self.take_over_dead();
        let latest = self.latest;
        let Some(node) = self.nodes.get_mut(&lease.epoch) else { return Renewal::Lost };
        (node.report, node.seen_at) = (report.clone(), latest.max(node.seen_at));
        let build = node.info.build.clone();
        let mut others = Others::default();
        let members = self.nodes.iter().filter(|(epoch, node)| **epoch != lease.epoch && !node.dead);
        members.for_each(|(_, node)| others.add((node.info.build == build).then_some(&node.report)));
        // Nodes cannot outlive the store, so only `kill` makes one dead.
        Renewal::Held { valid_for: Duration::MAX, others }
    }

    pub(super) fn leave(&mut self, lease: &Lease) {
        // A dead node is taken over instead: its crash counts.
        self.take_over_dead();
        self.free(lease.epoch, Departure::Left);
        self.settle_rejected();
    }

    pub(super) fn kill(&mut self, epoch: Epoch) {
        if let Some(node) = self.nodes.get_mut(&epoch) {
            node.dead = true;
        }
    }

    pub(super) fn take_over_dead(&mut self) {
        let dead: Vec<_> = self.nodes.iter().filter(|(_, node)| node.dead).map(|(epoch, _)| *epoch).collect();
        if dead.is_empty() {
            return;
        }
        for epoch in dead {
            self.free(epoch, Departure::Died);
        }
        self.settle_rejected();
    }

    /// Ends a membership, and frees the items that the node owned.
    fn free(&mut self, epoch: Epoch, cause: Departure) {
        let owned = self.owned_by(epoch);
        self.free_these(epoch, owned, cause);
    }

    /// Returns the items that an epoch owns now.
    pub(super) fn owned_by(&self, epoch: Epoch) -> Owned {
        let owned = |owner: Option<Epoch>| owner == Some(epoch);
        let activities = self.activities.iter().filter(|(_, activity)| owned(activity.owner));
        let instances = self.instances.iter().filter(|(_, instance)| owned(instance.owner));
        Owned {
            instances: instances.map(|(id, _)| id.clone()).collect(),
            activities: activities.map(|(id, _)| id.clone()).collect(),
        }
    }

    /// Ends a membership, and frees those of the given items that the node still owns.
    pub(super) fn free_these(&mut self, epoch: Epoch, owned: Owned, cause: Departure) {
        let crashed = cause.is_crash();
        self.has_crashed |= crashed;
        // If the membership has ended already, its items were freed at that moment.
        let Some(info) = self.nodes.remove(&epoch).map(|node| node.info) else { return };
        let node = info.id;
        self.departed(epoch, info, cause);
        let latest = self.latest;
        for id in owned.activities {
            if self.activities.get(&id).is_none_or(|activity| activity.owner != Some(epoch)) {
                continue;
            }
            self.change_activity(&id, |activity| {
                activity.owner = None;
                activity.crashes.alone &= crashed;
                if crashed {
                    activity.crashes.crashed(node);
                }
            });
        }
        for id in owned.instances {
            match self.instances.get_mut(&id).filter(|instance| instance.owner == Some(epoch)) {
                Some(instance) => instance.owner = None,
                None => continue,
            }
            self.reindex_instance(&id);
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            if crashed && instance.ready.is_some_and(|ready| ready.since(latest) <= latest) {
                instance.crashes.crashed(node);
            }
            instance.crashes.alone = false;
        }
    }

    /// Reverts the crashes that a take-over of this node has counted, for items that have no owner.
    fn take_back_crashes(&mut self, node: NodeId) {
        let lost = self.activities.iter().filter(|(_, a)| a.owner.is_none() && a.crashes.lost_by == Some(node));
        for id in lost.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.change_activity(&id, |activity| activity.crashes.take_back(node));
        }
        for instance in self.instances.values_mut().filter(|instance| instance.owner.is_none()) {
            instance.crashes.take_back(node);
        }
    }

    /// Returns true if the epoch is a member, as the transaction that is being applied sees it.
    pub(super) fn is_member(&self, epoch: Epoch) -> bool {
        self.begun.member(epoch).unwrap_or_else(|| self.nodes.contains_key(&epoch))
    }

    pub(super) fn nodes(&self) -> Vec<NodeRecord> {
        let count = |epoch: Epoch, owners: &mut dyn Iterator<Item = Option<Epoch>>| {
            owners.filter(|owner| *owner == Some(epoch)).count() as u64
        };
        let alive = self.nodes.iter().filter(|(_, node)| !node.dead);
        let record = |(epoch, node): (&Epoch, &Node)| NodeRecord {
            info: without_code(&node.info),
            epoch: *epoch,
            instances: count(*epoch, &mut self.instances.values().map(|i| i.owner)),
            activities: count(*epoch, &mut self.activities.values().map(|a| a.owner)),
            seen_at: Some(node.seen_at),
            report: node.report.clone(),
        };
        alive.map(record).collect()
    }
}
