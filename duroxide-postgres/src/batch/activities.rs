//! Commits of a node: outcomes, retries and releases.

use duroxide::Timestamp;
use duroxide::id::{ActivityId, ExecutionId};
use duroxide::provider::{
    AttemptRecord, Commit, CommitError, Committed, FailedAttempt, Lease, MessageRow, Ready, Tenure, Write,
};

use super::effects::AttemptRow;
use super::model::{Activity, CrashRecord, Model};
use crate::rows::stored_ready;

impl Model {
    pub(super) fn commit(&mut self, lease: &Lease, commit: &Commit) -> Result<Committed, CommitError> {
        match &commit.write {
            Write::Turn(turn) => self.turn(commit.id, Some(lease), turn),
            Write::Outcome { tenure, message } => self.outcome(lease, tenure, message.clone()),
            Write::Retry { tenure, visible_at, failed, cause } => {
                let done = self.release(lease, tenure, |activity| {
                    activity.attempt = tenure.attempt.saturating_add(1);
                    activity.ready_at = stored_ready(Ready::At(*visible_at));
                    activity.crashes = CrashRecord::default();
                    activity.cause.clone_from(cause);
                })?;
                self.record_attempt(lease, tenure, *visible_at, failed);
                Ok(done)
            }
            Write::Park { tenure, reason, cause } => self.park(lease, tenure, (reason, cause.as_deref())),
            Write::ReleaseActivity { tenure } => self.release(lease, tenure, |_| ()),
            Write::ReleaseInstance { execution, claim } => self.release_instance(lease, execution, *claim),
        }
    }

    fn record_attempt(&mut self, lease: &Lease, tenure: &Tenure, next_at: Timestamp, failed: &FailedAttempt) {
        let Tenure { activity: ActivityId { execution, call }, attempt, .. } = tenure;
        let Some(seq) = self.activities.get(&tenure.activity).map(|activity| activity.seq) else { return };
        let record = AttemptRecord {
            execution: execution.number,
            call: *call,
            attempt: *attempt,
            node: lease.epoch,
            next_at,
            failed: failed.clone(),
        };
        self.effects.attempts.push(AttemptRow { seq, record });
    }

    fn outcome(&mut self, lease: &Lease, tenure: &Tenure, message: MessageRow) -> Result<Committed, CommitError> {
        self.check_tenure(lease, tenure)?;
        self.remove_activity(&tenure.activity, Some(lease.epoch));
        let (to, latest) = (&tenure.activity.execution.instance, self.latest());
        let placement = self.deliver(to, message, latest, false);
        self.leave_mail(to, placement, Some(lease.epoch));
        Ok(Committed { messages: vec![placement], ..Committed::default() })
    }

    fn park(
        &mut self,
        lease: &Lease,
        tenure: &Tenure,
        (reason, cause): (&str, Option<&str>),
    ) -> Result<Committed, CommitError> {
        // A node that has left, and whose items are not released yet, has no build: the rejection would not count for any.
        let build = self.members.build(lease.epoch).ok_or(CommitError::Fenced)?.to_owned();
        let done = self.release(lease, tenure, |activity| {
            (activity.rejected, activity.other_cause) = (Some(reason.to_owned()), cause.map(str::to_owned));
            activity.rejected_by.insert(build.clone());
            activity.set_parked(true);
            activity.crashes = CrashRecord::default();
        })?;
        let (id, instance) = (&tenure.activity, &tenure.activity.execution.instance);
        self.signals.changed(instance);
        let Some(activity) = self.activities.get(id) else { return Ok(done) };
        self.effects.rejections.push((activity.seq, id.execution.number, id.call, build));
        let (name, tag) = (activity.name.as_str(), activity.tag.as_deref());
        if self.members.can_try_activity(name, tag, &activity.rejected_by) {
            self.change_activity(id, |activity| activity.set_parked(false));
            let latest = self.latest();
            if let Some(row) = self.instances.get_mut(instance) {
                row.updated_at = latest;
                row.is_changed = true;
            }
        }
        Ok(done)
    }

    fn check_tenure(&self, lease: &Lease, tenure: &Tenure) -> Result<(), CommitError> {
        let activity = self.activities.get(&tenure.activity).filter(|activity| activity.owner == Some(lease.epoch));
        let activity = activity.ok_or(CommitError::Fenced)?;
        let current = (activity.attempt, activity.claim) == (tenure.attempt, tenure.claim);
        if current { Ok(()) } else { Err(CommitError::Conflict) }
    }

    fn release(
        &mut self,
        lease: &Lease,
        tenure: &Tenure,
        change: impl FnOnce(&mut Activity),
    ) -> Result<Committed, CommitError> {
        self.check_tenure(lease, tenure)?;
        self.change_activity(&tenure.activity, |activity| {
            activity.owner = None;
            activity.crashes.alone = false;
            change(activity);
        });
        Ok(Committed::default())
    }

    fn release_instance(
        &mut self,
        lease: &Lease,
        execution: &ExecutionId,
        claim: u64,
    ) -> Result<Committed, CommitError> {
        let row = self.instances.get_mut(&execution.instance).filter(|row| row.identity == execution.identity);
        let row = row.filter(|row| row.owner == Some(lease.epoch)).ok_or(CommitError::Fenced)?;
        if row.claim != claim {
            return Err(CommitError::Conflict);
        }
        row.owner = None;
        row.crashes.alone = false;
        self.requeue(&execution.instance);
        Ok(Committed::default())
    }
}
