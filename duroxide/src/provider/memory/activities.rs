//! Commits of a node: outcomes, retries and releases.

use super::state::{Activity, CrashRecord, State};
use super::*;

impl State {
    pub(super) fn commit(&mut self, lease: &Lease, commit: Commit) -> Result<Committed, CommitError> {
        match commit.write {
            Write::Turn(turn) => self.turn(commit.id, Some(lease), *turn),
            Write::Outcome { tenure, message } => self.outcome(lease, &tenure, message),
            Write::Retry { tenure, visible_at, failed, cause } => {
                let done = self.release(lease, &tenure, |activity| {
                    activity.attempt = tenure.attempt.saturating_add(1);
                    activity.ready = Ready::At(visible_at);
                    activity.cause = cause;
                    activity.crashes = CrashRecord::default();
                })?;
                self.record_attempt(lease, &tenure, visible_at, *failed);
                Ok(done)
            }
            Write::Park { tenure, reason, cause } => self.park(lease, &tenure, (reason, cause)),
            Write::ReleaseActivity { tenure } => self.release(lease, &tenure, |_| ()),
            Write::ReleaseInstance { execution, claim } => self.release_instance(lease, &execution, claim),
        }
    }

    fn record_attempt(&mut self, lease: &Lease, tenure: &Tenure, next_at: Timestamp, failed: FailedAttempt) {
        let Tenure { activity, attempt, .. } = tenure;
        let Some(instance) = self.instances.get_mut(&activity.execution.instance) else { return };
        let Some(execution) = instance.executions.get_mut(&activity.execution.number) else { return };
        let (number, call, attempt) = (activity.execution.number, activity.call, *attempt);
        let record = AttemptRecord { execution: number, call, attempt, node: lease.epoch, next_at, failed };
        execution.attempts.insert((call, attempt), record);
        if let Some(replaced) = FailedAttempt::replaced_by(attempt) {
            execution.attempts.remove(&(call, replaced));
        }
    }

    fn outcome(&mut self, lease: &Lease, tenure: &Tenure, message: MessageRow) -> Result<Committed, CommitError> {
        self.check_tenure(lease, tenure)?;
        self.remove_activity(&tenure.activity, Some(lease.epoch));
        let (to, latest) = (&tenure.activity.execution.instance, self.latest);
        let placement = self.deliver(to, message, latest, false);
        self.leave_mail(to, placement, Some(lease.epoch));
        Ok(Committed { messages: vec![placement], ..Committed::default() })
    }

    fn park(
        &mut self,
        lease: &Lease,
        tenure: &Tenure,
        (reason, cause): (String, Option<String>),
    ) -> Result<Committed, CommitError> {
        let build = self.nodes.get(&lease.epoch).map(|node| node.info.build.clone());
        let done = self.release(lease, tenure, |activity| {
            (activity.rejected, activity.other_cause) = (Some(reason), cause);
            activity.rejected_by.extend(build);
            activity.set_parked(true);
            activity.crashes = CrashRecord::default();
        })?;
        self.signals.changed(&tenure.activity.execution.instance);
        self.settle_rejected_activity(&tenure.activity);
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
        let row = self.instances.get_mut(&execution.instance).filter(|row| row.identity() == execution.identity);
        let row = row.filter(|row| row.owner == Some(lease.epoch)).ok_or(CommitError::Fenced)?;
        if row.claim != claim {
            return Err(CommitError::Conflict);
        }
        row.owner = None;
        row.crashes.alone = false;
        self.reindex_instance(&execution.instance);
        Ok(Committed::default())
    }
}
