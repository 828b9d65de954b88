//! Nodes: joining, renewing, leaving, dying.

use super::state::{Handed, Node, State, has_code};
use super::*;

impl State {
    pub(super) fn join(&mut self, info: &NodeInfo) -> Lease {
        // A node that joins again has stepped back from whatever it owned.
        let before: Vec<_> = self.nodes.iter().filter(|(_, n)| n.info.id == info.id).map(|(e, _)| *e).collect();
        for epoch in before {
            self.free(epoch, false);
        }
        self.take_over_dead();
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        self.nodes
            .insert(epoch, Node { info: info.clone(), dead: false, cancelled: Vec::new(), handed: Handed::default() });
        self.resume_for(info);
        Lease { node: info.id, epoch }
    }

    pub(super) fn renew(&mut self, lease: &Lease) -> Renewal {
        self.take_over_dead();
        match self.nodes.get_mut(&lease.epoch) {
            Some(node) => Renewal::Held { cancelled: std::mem::take(&mut node.cancelled) },
            None => Renewal::Lost,
        }
    }

    pub(super) fn leave(&mut self, lease: &Lease) {
        // The dead do not leave.
        self.take_over_dead();
        self.free(lease.epoch, false);
    }

    pub(super) fn kill(&mut self, epoch: Epoch) {
        if let Some(node) = self.nodes.get_mut(&epoch) {
            node.dead = true;
        }
    }

    pub(super) fn take_over_dead(&mut self) {
        let dead: Vec<_> = self.nodes.iter().filter(|(_, node)| node.dead).map(|(epoch, _)| *epoch).collect();
        for epoch in dead {
            self.free(epoch, true);
        }
    }

    /// Ends a membership: what the node owned has no owner any more.
    fn free(&mut self, epoch: Epoch, crashed: bool) {
        self.has_crashed |= crashed;
        self.nodes.remove(&epoch);
        let latest = self.latest;
        let owned = |owner: Option<Epoch>| owner == Some(epoch);
        let activities: Vec<_> =
            self.activities.iter().filter(|(_, a)| owned(a.owner)).map(|(id, _)| id.clone()).collect();
        for id in activities {
            self.change_activity(&id, |activity| {
                activity.owner = None;
                activity.blame.alone &= crashed;
                if crashed {
                    activity.blame.crashed();
                }
            });
        }
        let instances: Vec<_> =
            self.instances.iter().filter(|(_, i)| owned(i.owner)).map(|(id, _)| id.clone()).collect();
        for id in instances {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.owner = None;
            }
            self.settle_instance(&id);
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            if crashed && instance.ready.is_some_and(|ready| ready.since(latest) <= latest) {
                instance.blame.crashed();
            }
            instance.blame.alone = false;
        }
    }

    /// Resumes, once per instance and build, what a node that joins has the code for.
    fn resume_for(&mut self, info: &NodeInfo) {
        let instances: Vec<_> = self.instances.keys().cloned().collect();
        for id in instances {
            let parked: Vec<_> = self.activities_of(&id, None);
            let parked: Vec<_> = parked
                .into_iter()
                .filter(|activity| {
                    let activity = self.activities.get(activity);
                    activity.is_some_and(|a| a.parked.is_some() && info.handlers.activities.contains(&a.name))
                })
                .collect();
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let suspended = instance.status == InstanceStatus::Suspended
                && has_code(&info.handlers.orchestrations, &instance.name, instance.version.as_ref());
            if (suspended || !parked.is_empty()) && instance.tried.insert(info.build.clone()) {
                let latest = self.latest;
                self.resume_parts(&id, suspended, &parked, latest);
            }
        }
    }

    pub(super) fn nodes(&self) -> Vec<NodeRecord> {
        let count = |epoch: Epoch, owners: &mut dyn Iterator<Item = Option<Epoch>>| {
            owners.filter(|owner| *owner == Some(epoch)).count() as u64
        };
        let alive = self.nodes.iter().filter(|(_, node)| !node.dead);
        let record = |(epoch, node): (&Epoch, &Node)| NodeRecord {
            info: node.info.clone(),
            epoch: *epoch,
            instances: count(*epoch, &mut self.instances.values().map(|i| i.owner)),
            activities: count(*epoch, &mut self.activities.values().map(|a| a.owner)),
        };
        alive.map(record).collect()
    }
}
