//! Activities of which it is not known whether this node was given them.
//!
//! A turn that was refused may have been written before, with its answer lost, and something else have happened since. Then
//! nobody knows that this node has its eager activities: messages and instances come with the next question, activities
//! do not. It is known once the instance is loaded: what its history has not scheduled was never written, and will be
//! scheduled anew; anything else is given back, to be handed out like others.

use std::collections::BTreeMap;

use super::commits::Context;
use super::{Answer, Node};
use crate::id::{ActivityId, CallId, EventId, ExecutionId, InstanceId};
use crate::provider::{InstanceRecord, Turn, Write};
use crate::runtime::Backoff;

/// See the module. In an order that a simulation repeats.
pub(super) type Doubts = BTreeMap<ActivityId, EventId>;

impl Node {
    /// A turn was refused: its eager activities are in doubt. Its instance is to be loaded.
    pub(super) fn doubt(&mut self, turn: &Turn) {
        let eager = turn.activities.iter().filter(|activity| activity.eager);
        self.doubts.extend(eager.map(|activity| (id(turn, activity.call), activity.scheduled)));
    }

    /// A turn was written by a commit that is answered: what it has scheduled is in no doubt.
    pub(super) fn is_written(&mut self, turn: &Turn) {
        if self.doubts.is_empty() {
            return;
        }
        for activity in &turn.activities {
            self.doubts.remove(&id(turn, activity.call));
        }
    }

    /// An instance was loaded up to an event of an execution: what that has scheduled was written.
    pub(super) fn loaded_up_to(&mut self, execution: &ExecutionId, last: EventId) {
        let written = |activity: &ActivityId, scheduled| activity.execution != *execution || scheduled <= last;
        self.settle(&execution.instance, written);
    }

    /// An instance was not handed out when it was to be loaded: looks for it, if something of it is in doubt.
    pub(super) fn look_for(&mut self, instance: &InstanceId) {
        if !self.doubts.keys().any(|activity| activity.execution.instance == *instance) {
            return;
        }
        let (shared, instance) = (self.shared.clone(), instance.clone());
        self.ask(async move {
            let mut backoff = Backoff::default();
            loop {
                match shared.provider.instance(&instance).await {
                    Ok(record) => return Answer::Instance(instance, record.map(Box::new)),
                    Err(error) => tracing::warn!(%error, %instance, "it cannot be read; it is tried again"),
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    /// An instance that was not handed out was looked for.
    pub(super) fn looked_for(&mut self, instance: InstanceId, record: Option<&InstanceRecord>) {
        match record {
            // Nothing was written, or what was is gone with it.
            None => self.doubts.retain(|activity, _| activity.execution.instance != instance),
            // It has come to be meanwhile.
            Some(record) if record.owner == Some(self.lease.epoch) => self.acquiring.load(instance),
            Some(_) => self.settle(&instance, |_, _| true),
        }
    }

    /// Gives back what was written and does not run.
    fn settle(&mut self, instance: &InstanceId, written: impl Fn(&ActivityId, EventId) -> bool) {
        let doubts = std::mem::take(&mut self.doubts).into_iter();
        let (settled, others): (Doubts, Doubts) = doubts.partition(|(id, _)| id.execution.instance == *instance);
        self.doubts = others;
        for (activity, scheduled) in settled {
            if written(&activity, scheduled) && !self.running.contains_key(&activity) {
                self.commit(Write::ReleaseActivity { activity }, Context::Other);
            }
        }
    }
}

fn id(turn: &Turn, call: CallId) -> ActivityId {
    ActivityId { execution: turn.execution.clone(), call }
}
