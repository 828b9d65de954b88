//! Instances that a lost request may still change: a submission whose caller stopped waiting, or the commit of a first
//! turn that failed and is not repeated. If the storage carries out such a request later, no answer reaches this node.
//!
//! The node therefore loads each instance at once, and again after 1, 2, 4, 8, 16 and 32 seconds, the longest time that
//! a lost request may take. A newer message cannot overtake a late one in the meantime: messages are numbered, and the
//! live copy waits until the gap before a message is filled.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::id::InstanceId;
use crate::node::Node;

/// The instances that the node rechecks.
#[derive(Default)]
pub(in crate::node) struct RecheckList {
    /// The ticks since each of them was added. Ordered, so that a simulation repeats.
    instances: BTreeMap<InstanceId, u32>,
    /// The next tick. `None`: there are no instances.
    pub(in crate::node) tick: Option<Pin<Box<Sleep>>>,
}

impl RecheckList {
    const TICK: Duration = Duration::from_secs(1);
    /// The ticks after which a lost request is no longer carried out: see [`Provider`](crate::provider::Provider).
    const TICKS: u32 = 32;

    pub(in crate::node) fn contains(&self, instance: &InstanceId) -> bool {
        self.instances.contains_key(instance)
    }

    fn set_tick(&mut self) {
        self.tick = if self.instances.is_empty() { None } else { Some(Box::pin(sleep(Self::TICK))) };
    }
}

impl Node {
    /// Loads an instance that a lost request may still change: now, and at intervals for 32 seconds.
    pub(in crate::node) fn recheck(&mut self, instance: InstanceId) {
        self.acquiring.load(instance.clone());
        self.uncertain.instances.insert(instance, 0);
        if self.uncertain.tick.is_none() {
            self.uncertain.set_tick();
        }
    }

    /// Handles a tick: loads the instances that are due, and removes those whose time is over.
    pub(in crate::node) fn recheck_due(&mut self) {
        for (instance, ticks) in &mut self.uncertain.instances {
            *ticks += 1;
            if ticks.is_power_of_two() {
                self.acquiring.load(instance.clone());
            }
        }
        self.uncertain.instances.retain(|_, ticks| *ticks < RecheckList::TICKS);
        self.uncertain.set_tick();
    }
}
