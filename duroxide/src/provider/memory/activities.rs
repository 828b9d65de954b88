//! What becomes of an attempt, and giving back.

use super::state::{Activity, Blame, State};
use super::*;
use crate::id::ActivityId;

impl State {
    pub(super) fn commit(&mut self, lease: &Lease, commit: Commit) -> Result<Committed, CommitError> {
        let id = commit.id;
        match commit.write {
            Write::Turn(turn) => self.turn(id, Some(lease), *turn),
            Write::Outcome { activity, attempt, message } => {
                if self.is_remembered(id.0) {
                    return Ok(Committed { repeated: true, ..Committed::default() });
                }
                self.owned(lease, &activity, Some(attempt))?;
                self.remember(id.0);
                self.remove_activity(&activity, false);
                let latest = self.latest;
                let placement = self.deliver(&activity.execution.instance, message, latest, false);
                self.signals.work |= matches!(placement, Placement::Owned(owner) if owner != lease.epoch);
                Ok(Committed { messages: vec![placement], ..Committed::default() })
            }
            Write::Retry { activity, attempt, visible_at } => {
                self.give_back(lease, id, &activity, Some(attempt), |activity| {
                    activity.attempt = attempt.saturating_add(1);
                    activity.ready = Ready::At(visible_at);
                    activity.blame = Blame::default();
                })
            }
            Write::Park { activity, reason } => self.once(id, |this| {
                let done = this.give_back(lease, id, &activity, None, |activity| activity.parked = Some(reason))?;
                let build = this.nodes.get(&lease.epoch).map(|node| node.info.build.clone());
                if let Some(instance) = this.instances.get_mut(&activity.execution.instance) {
                    instance.tried.extend(build);
                }
                this.signals.changed(&activity.execution.instance);
                Ok(done)
            }),
            Write::ReleaseActivity { activity } => {
                self.once(id, |this| this.give_back(lease, id, &activity, None, |_| ()))
            }
            Write::ReleaseInstance { instance } => self.once(id, |this| this.release_instance(lease, id, &instance)),
        }
    }

    /// What does not show in a number that only grows, such as the attempt, is remembered by itself: it may be taken again,
    /// and go on, before the commit is sent once more.
    fn once(
        &mut self,
        id: crate::id::CommitId,
        write: impl FnOnce(&mut Self) -> Result<Committed, CommitError>,
    ) -> Result<Committed, CommitError> {
        if self.is_remembered(id.0) {
            return Ok(Committed { repeated: true, ..Committed::default() });
        }
        let done = write(self)?;
        self.remember(id.0);
        Ok(done)
    }

    fn owned(&self, lease: &Lease, id: &ActivityId, attempt: Option<u32>) -> Result<(), CommitError> {
        let activity = self.activities.get(id).filter(|activity| activity.owner == Some(lease.epoch));
        let activity = activity.ok_or(CommitError::Fenced)?;
        if attempt.is_some_and(|attempt| attempt != activity.attempt) { Err(CommitError::Conflict) } else { Ok(()) }
    }

    fn give_back(
        &mut self,
        lease: &Lease,
        id: crate::id::CommitId,
        activity: &ActivityId,
        attempt: Option<u32>,
        change: impl FnOnce(&mut Activity),
    ) -> Result<Committed, CommitError> {
        if self.activities.get(activity).is_some_and(|a| a.last_commit == Some(id)) {
            return Ok(Committed { repeated: true, ..Committed::default() });
        }
        self.owned(lease, activity, attempt)?;
        self.change_activity(activity, |activity| {
            activity.owner = None;
            activity.blame.alone = false;
            activity.last_commit = Some(id);
            change(activity);
        });
        Ok(Committed::default())
    }

    fn release_instance(
        &mut self,
        lease: &Lease,
        id: crate::id::CommitId,
        instance: &InstanceId,
    ) -> Result<Committed, CommitError> {
        let row = self.instances.get_mut(instance).ok_or(CommitError::Fenced)?;
        if row.last_commit == Some(id) {
            return Ok(Committed { repeated: true, ..Committed::default() });
        }
        if row.owner != Some(lease.epoch) {
            return Err(CommitError::Fenced);
        }
        row.owner = None;
        row.blame.alone = false;
        row.last_commit = Some(id);
        self.settle_instance(instance);
        Ok(Committed::default())
    }
}
