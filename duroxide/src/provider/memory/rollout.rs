//! Rollouts: items that builds have rejected, and starts for the latest version.

use std::collections::HashSet;

use super::state::{Activity, Instance, Node, State, has_code, serves};
use super::*;
use crate::id::ActivityId;

impl State {
    /// Suspends and parks the rejected items that no member can try, and releases those that a member can. The crashes of
    /// an item are kept: the build that crashed may be one that joins again.
    pub(super) fn settle_rejected(&mut self) {
        let instances: Vec<_> = self.instances.keys().cloned().collect();
        for id in instances {
            self.settle_rejected_instance(&id);
        }
        let activities: Vec<_> = self.activities.keys().cloned().collect();
        for id in activities {
            self.settle_rejected_activity(&id);
        }
    }

    pub(super) fn settle_rejected_instance(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id).filter(|instance| instance.paused.is_none()) else { return };
        let status = match (instance.status, self.can_be_tried(instance)) {
            (InstanceStatus::Suspended, true) => InstanceStatus::Running,
            (InstanceStatus::Running, false) if instance.owner.is_none() && instance.suspension.is_some() => {
                InstanceStatus::Suspended
            }
            _ => return,
        };
        let latest = self.latest;
        if let Some(instance) = self.instances.get_mut(id) {
            instance.status = status;
            instance.updated_at = latest;
        }
        self.reindex_instance(id);
        self.signals.changed(id);
    }

    pub(super) fn settle_rejected_activity(&mut self, id: &ActivityId) {
        let Some(activity) = self.activities.get(id).filter(|activity| activity.owner.is_none()) else { return };
        let can_be_tried = self.activity_can_be_tried(activity);
        if activity.rejected.is_none() || activity.parked != can_be_tried {
            return;
        }
        let latest = self.latest;
        self.change_activity(id, |activity| activity.set_parked(!can_be_tried));
        let instance = &id.execution.instance;
        if let Some(row) = self.instances.get_mut(instance) {
            row.updated_at = latest;
        }
        self.signals.changed(instance);
    }

    /// Returns true if a member may claim an instance: it has the code, and its build has not rejected the instance.
    /// Without a pinned version, no other member may have a later one.
    fn can_be_tried(&self, instance: &Instance) -> bool {
        let can_try = |(epoch, node): (&Epoch, &Node)| {
            has_code(&node.info.handlers.orchestrations, &instance.name, instance.version.as_ref())
                && !instance.rejected_by.contains(&node.info.build)
                && !(instance.version.is_none() && self.is_outdated(*epoch, &instance.name))
        };
        self.nodes.iter().any(can_try)
    }

    fn activity_can_be_tried(&self, activity: &Activity) -> bool {
        let can_try = |info: &NodeInfo| {
            info.handlers.activities.contains(&activity.name)
                && serves(info.handlers.tags.as_deref(), activity.tag.as_ref())
                && !activity.rejected_by.contains(&info.build)
        };
        self.nodes.values().any(|node| can_try(&node.info))
    }

    /// Returns true if another member has a later version of an orchestration than the node of this epoch, so that a start
    /// without a version is left to that member.
    pub(super) fn is_outdated(&self, epoch: Epoch, name: &str) -> bool {
        let latest = |info: &NodeInfo| {
            let versions = info.handlers.orchestrations.iter().filter(|(n, _)| n == name);
            versions.map(|(_, version)| version).max().cloned()
        };
        let own = self.nodes.get(&epoch).and_then(|node| latest(&node.info));
        self.nodes.values().any(|node| latest(&node.info) > own)
    }

    /// Returns true if a node may claim an instance: it has the code, its build has not rejected the instance, and no other
    /// member has a later version, unless a version is pinned.
    pub(super) fn may_claim(&self, lease: &Lease, want: &Want, instance: &Instance) -> bool {
        has_code(&want.orchestrations, &instance.name, instance.version.as_ref())
            && !(instance.suspension.is_some()
                && instance.paused.is_none()
                && self.has_rejected(lease, &instance.rejected_by))
            && !(instance.version.is_none() && self.is_outdated(lease.epoch, &instance.name))
    }

    /// Returns true if the build of a node has not rejected an activity.
    pub(super) fn may_claim_activity(&self, lease: &Lease, activity: &Activity) -> bool {
        activity.rejected.is_none() || !self.has_rejected(lease, &activity.rejected_by)
    }

    fn has_rejected(&self, lease: &Lease, rejected_by: &HashSet<String>) -> bool {
        self.nodes.get(&lease.epoch).is_some_and(|node| rejected_by.contains(&node.info.build))
    }
}
