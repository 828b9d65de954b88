//! Instances for which something may still be on its way to the storage: a call of a client that was given up, or the commit
//! of a first turn that failed and is not made again. When it arrives after all, nobody hears of it.
//!
//! So they are looked at again after 1, 2, 4, .. seconds, until nothing can be on its way any more. Until then, messages to
//! them take the way through the storage, which knows their order: one that is handed over could overtake an earlier one
//! that nobody has heard of.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::Node;
use crate::id::InstanceId;

/// See the module.
#[derive(Default)]
pub(super) struct Uncertain {
    /// For how many ticks each of them has been; in an order that a simulation repeats.
    instances: BTreeMap<InstanceId, u32>,
    /// The next tick, while there are any.
    pub(super) tick: Option<Pin<Box<Sleep>>>,
}

impl Uncertain {
    const TICK: Duration = Duration::from_secs(1);
    /// After so many ticks nothing is on its way any more: see [`Provider`](crate::provider::Provider).
    const TICKS: u32 = 32;

    pub(super) fn contains(&self, instance: &InstanceId) -> bool {
        self.instances.contains_key(instance)
    }

    fn set_tick(&mut self) {
        self.tick = if self.instances.is_empty() { None } else { Some(Box::pin(sleep(Self::TICK))) };
    }
}

impl Node {
    /// Looks for an instance of which something may still be on its way: now, and a few times more.
    pub(super) fn look_for_a_while(&mut self, instance: InstanceId) {
        self.acquiring.load(instance.clone());
        self.uncertain.instances.insert(instance, 0);
        if self.uncertain.tick.is_none() {
            self.uncertain.set_tick();
        }
    }

    pub(super) fn look_again(&mut self) {
        for (instance, ticks) in &mut self.uncertain.instances {
            *ticks += 1;
            if ticks.is_power_of_two() {
                self.acquiring.load(instance.clone());
            }
        }
        self.uncertain.instances.retain(|_, ticks| *ticks < Uncertain::TICKS);
        self.uncertain.set_tick();
    }
}
