//! Instances that a lost request may still change: a submission whose caller stopped waiting, or the commit of a first
//! turn that failed and is not repeated. If the storage carries out such a request later, no answer reaches this node.
//!
//! The node therefore loads each instance at once, and again after 1, 2, 4, 8, 16 and 32 seconds, the longest time that
//! a lost request may take. A newer message cannot overtake a late one in the meantime: messages are numbered, and the
//! live copy waits until the gap before a message is filled.

use std::collections::BTreeMap;

use crate::id::InstanceId;

/// The instances that the node rechecks.
#[derive(Default)]
pub(super) struct RecheckList {
    /// The ticks since each of them was added. Ordered, so that a simulation repeats.
    instances: BTreeMap<InstanceId, u32>,
}

impl RecheckList {
    /// The ticks, of a second each, after which a lost request is no longer carried out: see
    /// [`Provider`](crate::provider::Provider).
    const TICKS: u32 = 32;

    pub(super) fn add(&mut self, instance: InstanceId) {
        self.instances.insert(instance, 0);
    }

    pub(super) fn contains(&self, instance: &InstanceId) -> bool {
        self.instances.contains_key(instance)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Returns the instances that are due, and removes those whose time is over.
    pub(super) fn tick(&mut self) -> Vec<InstanceId> {
        let mut due = Vec::new();
        for (instance, ticks) in &mut self.instances {
            *ticks += 1;
            if ticks.is_power_of_two() {
                due.push(instance.clone());
            }
        }
        self.instances.retain(|_, ticks| *ticks < Self::TICKS);
        due
    }
}
