//! The effects of [`LostAnswers`](super::lost::LostAnswers): loads and reads of instances, and releases of activities.

use super::lost::{Found, Here, RequestNumber, Settled};
use super::outbox::Context;
use super::{Answer, Node};
use crate::backoff::Backoff;
use crate::id::{ActivityId, EventId, ExecutionId, InstanceId};
use crate::provider::{InstanceRecord, Tenure, Write};

impl Node {
    /// Settles the unconfirmed activities of an instance that an answer contains, with a history that ends with `last`.
    pub(super) fn settle_loaded(&mut self, execution: &ExecutionId, last: EventId, asked: RequestNumber) {
        if !self.lost.concern(&execution.instance) {
            return;
        }
        let runs = |activity: &ActivityId| self.activities.runs(activity);
        let here = Here { in_flight: self.live.in_flight(&execution.instance), runs };
        let lost = self.lost.loaded(execution, last, asked, &here);
        self.release_activities(lost);
    }

    /// Reads an instance that was requested by name and is not in the answer, if activities of it are unconfirmed.
    pub(super) fn read_unconfirmed(&mut self, instance: &InstanceId) {
        if !self.lost.concern(instance) {
            return;
        }
        let (shared, instance, asked) = (self.shared.clone(), instance.clone(), self.lost.next_request());
        self.ask(async move {
            let mut backoff = Backoff::default();
            loop {
                match shared.provider.instance(&instance).await {
                    Ok(record) => return Answer::Instance(instance, record.map(Box::new), asked),
                    Err(error) => {
                        tracing::warn!(%error, %instance, "the instance cannot be read; retrying")
                    }
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    /// Settles the activities of an instance that [`read_unconfirmed`](Self::read_unconfirmed) has read.
    pub(super) fn settle_read(&mut self, instance: InstanceId, record: Option<&InstanceRecord>, asked: RequestNumber) {
        let found = match record {
            None => Found::Missing,
            Some(record) if record.owner == Some(self.membership.lease.epoch) => Found::Own,
            Some(_) => Found::Other,
        };
        let runs = |activity: &ActivityId| self.activities.runs(activity);
        let here = Here { in_flight: self.live.in_flight(&instance), runs };
        match self.lost.read(&instance, &found, asked, &here) {
            Settled::Load => self.work.load(instance),
            Settled::Release(lost) => self.release_activities(lost),
        }
    }

    /// Loads an instance whose turn has ended, if activities of it are unconfirmed: the turn kept them open.
    pub(super) fn settle_later(&mut self, instance: &InstanceId) {
        if self.lost.concern(instance) {
            self.work.load(instance.clone());
        }
    }

    fn release_activities(&mut self, activities: Vec<Tenure>) {
        for tenure in activities {
            self.commit(Write::ReleaseActivity { tenure }, Context::Other);
        }
    }

    /// Loads an instance that a lost request may still change: now, and at intervals for 32 seconds.
    pub(super) fn recheck(&mut self, instance: InstanceId) {
        self.work.load(instance.clone());
        self.lost.recheck(instance);
        self.time.start_recheck();
    }

    /// Handles a tick of the rechecks.
    pub(super) fn recheck_due(&mut self) {
        for instance in self.lost.tick() {
            self.work.load(instance);
        }
        if self.lost.needs_tick() {
            self.time.start_recheck();
        }
    }
}
