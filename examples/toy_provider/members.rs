//! The membership of nodes, and rule 2: an item belongs to an epoch only as long as that epoch is a member.

use std::time::Duration;

use duroxide::id::{Epoch, NodeId};
use duroxide::provider::*;

use crate::rows::{Instance, Node, Rows, Tenancy};

impl Rows {
    pub(crate) fn join(&mut self, info: &NodeInfo) -> Lease {
        // A node that joins again has stopped the work of its earlier terms.
        let earlier = self.nodes.iter().filter(|(_, node)| node.info.id == info.id);
        let earlier: Vec<_> = earlier.map(|(epoch, _)| *epoch).collect();
        earlier.into_iter().for_each(|epoch| self.end(epoch, false));
        self.take_over_dead();
        self.tenancies().for_each(|tenancy| tenancy.take_back(info.id));
        self.last_epoch += 1;
        let (epoch, info) = (Epoch(self.last_epoch), info.clone());
        let node = info.id;
        let (report, mail, cancelled) = Default::default();
        let row = Node { info, dead: false, claim: 0, report, mail, cancelled };
        self.nodes.insert(epoch, row);
        self.settle_rejected();
        Lease { node, epoch }
    }

    pub(crate) fn renew(&mut self, lease: &Lease, report: &NodeReport) -> Renewal {
        self.take_over_dead();
        let Some(node) = self.nodes.get_mut(&lease.epoch) else { return Renewal::Lost };
        node.report = report.clone();
        let build = node.info.build.clone();
        // The nodes live in this process: only `kill` makes one dead, so a lease needs no limit.
        let mut others = Others::default();
        let members = self.nodes.iter().filter(|(epoch, _)| **epoch != lease.epoch);
        members.for_each(|(_, node)| others.add((node.info.build == build).then_some(&node.report)));
        Renewal::Held { valid_for: Duration::MAX, others }
    }

    pub(crate) fn leave(&mut self, lease: &Lease) {
        // A node that is dead is taken over instead: its crash counts.
        self.take_over_dead();
        self.end(lease.epoch, false);
        self.settle_rejected();
    }

    pub(crate) fn take_over_dead(&mut self) {
        let dead: Vec<_> = self.nodes.iter().filter(|(_, node)| node.dead).map(|(epoch, _)| *epoch).collect();
        if !dead.is_empty() {
            dead.into_iter().for_each(|epoch| self.end(epoch, true));
            self.settle_rejected();
        }
    }

    fn tenancies(&mut self) -> impl Iterator<Item = &mut Tenancy> {
        let instances = self.instances.values_mut().map(|instance| &mut instance.tenancy);
        instances.chain(self.activities.values_mut().map(|activity| &mut activity.tenancy))
    }

    /// Ends a membership, and frees its items. A crash counts for those in flight: activities, and instances with messages
    /// that are due.
    fn end(&mut self, epoch: Epoch, crashed: bool) {
        let Some(node) = self.nodes.remove(&epoch).map(|node| node.info.id) else { return };
        let crash = |tenancy: &mut Tenancy, node: NodeId, in_flight: bool| {
            tenancy.owner = None;
            if crashed && in_flight {
                tenancy.crashed(node);
            }
            tenancy.alone = false;
        };
        let activities = self.activities.values_mut().filter(|activity| activity.tenancy.is_owned_by(epoch));
        activities.for_each(|activity| crash(&mut activity.tenancy, node, true));
        let owned = |instance: &Instance| instance.tenancy.is_owned_by(epoch);
        let owned: Vec<_> = self.instances.iter().filter(|(_, i)| owned(i)).map(|(id, _)| id.clone()).collect();
        for id in owned {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.tenancy.owner = None;
            }
            let is_due = self.ready(&id).is_some_and(|ready| ready.since(self.latest) <= self.latest);
            if let Some(instance) = self.instances.get_mut(&id) {
                crash(&mut instance.tenancy, node, is_due);
            }
        }
    }

    /// Sets aside the rejected items that no member can try, and frees those that a member can. Called whenever the members
    /// have changed, and after a rejection.
    pub(crate) fn settle_rejected(&mut self) {
        let latest = self.latest;
        let is_wrong = |tenancy: &Tenancy, can_be_tried| {
            tenancy.owner.is_none() && tenancy.rejected.is_some() && tenancy.set_aside == can_be_tried
        };
        let running = self.instances.iter().filter(|(_, instance)| instance.paused.is_none());
        let instances = running.filter(|(_, i)| is_wrong(&i.tenancy, self.can_be_tried(i)));
        let instances: Vec<_> = instances.map(|(id, _)| id.clone()).collect();
        let can_try = |name: &String, tag: &Option<String>, tenancy: &Tenancy| {
            let mut members = self.nodes.values().map(|node| &node.info);
            members.any(|info| {
                let Handlers { activities, tags, .. } = &info.handlers;
                activities.contains(name) && serves(tags.as_deref(), tag.as_ref()) && !rejects(tenancy, info)
            })
        };
        let activities = self.activities.iter().filter(|(_, activity)| {
            let NewActivity { name, tag, .. } = &activity.new;
            is_wrong(&activity.tenancy, can_try(name, tag, &activity.tenancy))
        });
        let activities: Vec<_> = activities.map(|(id, _)| id.clone()).collect();
        for id in activities {
            if let Some(activity) = self.activities.get_mut(&id) {
                activity.tenancy.set_aside ^= true;
            }
            if let Some(instance) = self.instances.get_mut(&id.execution.instance) {
                instance.updated_at = latest;
            }
        }
        for id in instances {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.tenancy.set_aside ^= true;
                instance.updated_at = latest;
            }
        }
    }

    fn can_be_tried(&self, instance: &Instance) -> bool {
        self.nodes.iter().any(|(epoch, node)| {
            let orchestrations = &node.info.handlers.orchestrations;
            self.may_run(*epoch, orchestrations, instance) && !rejects(&instance.tenancy, &node.info)
        })
    }

    /// Returns true if a node has the code of an instance, and no other member must have it.
    pub(crate) fn may_run(&self, epoch: Epoch, code: &[(String, semver::Version)], instance: &Instance) -> bool {
        let Instance { name, version, .. } = instance;
        let has_code = code.iter().any(|(n, v)| n == name && version.as_ref().is_none_or(|pinned| pinned == v));
        has_code && !(version.is_none() && self.is_outdated(epoch, name))
    }

    /// Returns true if another member has a later version of an orchestration, so that a start without a version is left to
    /// that member.
    pub(crate) fn is_outdated(&self, epoch: Epoch, name: &str) -> bool {
        let latest = |node: &Node| {
            let named = node.info.handlers.orchestrations.iter().filter(|(n, _)| n == name);
            named.map(|(_, version)| version.clone()).max()
        };
        let own = self.nodes.get(&epoch).and_then(latest);
        self.nodes.values().any(|node| latest(node) > own)
    }

    /// Returns true if the build of a member has rejected an item.
    pub(crate) fn has_rejected(&self, epoch: Epoch, tenancy: &Tenancy) -> bool {
        tenancy.rejected.is_some() && self.nodes.get(&epoch).is_some_and(|node| rejects(tenancy, &node.info))
    }
}

fn rejects(tenancy: &Tenancy, info: &NodeInfo) -> bool {
    tenancy.rejected_by.contains(&info.build)
}

/// Returns true if a node with these tags serves the tag. Without tags, a node serves all of them.
pub(crate) fn serves(tags: Option<&[String]>, tag: Option<&String>) -> bool {
    tags.zip(tag).is_none_or(|(tags, tag)| tags.contains(tag))
}
