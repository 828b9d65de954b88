//! What clients ask for.

use super::state::{Blame, Remembered, State};
use super::*;
use crate::id::ActivityId;

impl State {
    pub(super) fn submit(&mut self, submission: Submission) -> Result<Submitted, SubmitError> {
        match submission {
            Submission::Start { new, if_exists, lease, time, again } => {
                self.saw(time);
                self.start(new, if_exists, lease, time, again)
            }
            Submission::Send { to, message, lease, time, again } => {
                self.saw(time);
                self.send(&to, message, lease, time, again)
            }
            Submission::Resume { instance, time } => self.resume(&instance, time),
            Submission::Terminate { id, turn } => self.terminate(id, *turn),
        }
    }

    fn start(
        &mut self,
        new: NewInstance,
        if_exists: IfExists,
        lease: Option<Lease>,
        time: Timestamp,
        again: bool,
    ) -> Result<Submitted, SubmitError> {
        let gone = |written| Ok(Submitted { owner: None, execution: 1, written, last_found: None });
        match self.remembered(new.start.id.0) {
            Some(Remembered::Refused(Some(found))) if if_exists != IfExists::Attach => {
                return Err(SubmitError::Exists(found));
            }
            Some(Remembered::Refused(_)) => return gone(false),
            Some(Remembered::Done) => return gone(true),
            None => {}
        }
        if let Some(instance) = self.instances.get(&new.instance) {
            let (owner, execution, status) = (instance.owner, instance.execution, instance.status);
            let there = |written| Ok(Submitted { owner, execution, written, last_found: None });
            if instance.start == new.start.id {
                return there(true);
            }
            if if_exists == IfExists::Replace && status.is_finished() {
                self.remove_instance(&new.instance);
            } else {
                if again {
                    self.remember_as(new.start.id.0, Remembered::Refused(Some(status)));
                }
                return if if_exists == IfExists::Attach { there(false) } else { Err(SubmitError::Exists(status)) };
            }
        }
        let execution = self.first_execution(&new.instance);
        let placement = self.create(new, lease.map(|lease| lease.epoch), time);
        Ok(Submitted { owner: owner(placement), execution, written: true, last_found: None })
    }

    fn send(
        &mut self,
        to: &InstanceId,
        message: MessageRow,
        lease: Option<Lease>,
        time: Timestamp,
        again: bool,
    ) -> Result<Submitted, SubmitError> {
        let nobody = |found: Option<_>| Err(found.map_or(SubmitError::NotFound, SubmitError::Finished));
        let remembered = self.remembered(message.id.0);
        if let Some(Remembered::Refused(found)) = remembered {
            return nobody(found);
        }
        let there = self.instances.get(to);
        let last_found = there.and_then(|there| there.last_found);
        if remembered.is_some() || there.is_some_and(|i| i.messages.contains_key(&message.id)) {
            let (owner, execution) = there.map_or((None, 1), |there| (there.owner, there.execution));
            return Ok(Submitted { owner, execution, written: true, last_found });
        }
        let found = there.map(|there| there.status);
        let Some(execution) = there.filter(|there| !there.status.is_finished()).map(|there| there.execution) else {
            if again {
                self.remember_as(message.id.0, Remembered::Refused(found));
            }
            return nobody(found);
        };
        let id = message.id;
        match self.deliver(to, message, time, true) {
            Placement::Refused => Err(SubmitError::Conflict),
            placement => {
                let by = lease.map(|lease| lease.epoch);
                if owner(placement).is_some_and(|owner| Some(owner) != by) {
                    self.signals.work = true;
                    self.instances
                        .entry(to.clone())
                        .and_modify(|instance| instance.last_found = instance.messages.get(&id).copied());
                }
                Ok(Submitted { owner: owner(placement), execution, written: true, last_found })
            }
        }
    }

    fn resume(&mut self, instance: &InstanceId, time: Timestamp) -> Result<Submitted, SubmitError> {
        self.saw(time);
        let there = self.instances.get(instance).ok_or(SubmitError::NotFound)?;
        let (owner, execution) = (there.owner, there.execution);
        let suspended = there.status == InstanceStatus::Suspended;
        let mut parked = self.activities_of(instance, None);
        parked.retain(|id| self.activities.get(id).is_some_and(|activity| activity.parked.is_some()));
        let written = suspended || !parked.is_empty();
        if written {
            self.resume_parts(instance, suspended, &parked, time);
        }
        Ok(Submitted { owner, execution, written, last_found: None })
    }

    /// Lets the instance itself, if it is suspended, and some of its parked activities go on.
    pub(super) fn resume_parts(&mut self, id: &InstanceId, suspended: bool, parked: &[ActivityId], time: Timestamp) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.updated_at = time;
            if suspended {
                instance.status = InstanceStatus::Running;
                instance.suspension = None;
                instance.blame = Blame::default();
            }
        }
        for activity in parked {
            self.change_activity(activity, |activity| {
                activity.parked = None;
                activity.blame = Blame::default();
            });
        }
        self.settle_instance(id);
        self.signals.changed(id);
    }

    fn terminate(&mut self, id: crate::id::CommitId, turn: Turn) -> Result<Submitted, SubmitError> {
        let done = Submitted { owner: None, execution: turn.execution.number, written: true, last_found: None };
        if self.is_remembered(id.0) {
            return Ok(done);
        }
        let there = self.instances.get(&turn.execution.instance).ok_or(SubmitError::NotFound)?;
        if there.status.is_finished() {
            return Err(SubmitError::Finished(there.status));
        }
        match self.turn(id, None, turn) {
            Ok(_) => {
                self.remember(id.0);
                Ok(done)
            }
            Err(CommitError::Failed(reason)) => Err(SubmitError::Failed(reason)),
            Err(CommitError::Fenced | CommitError::Conflict) => Err(SubmitError::Conflict),
        }
    }
}

fn owner(placement: Placement) -> Option<Epoch> {
    match placement {
        Placement::Owned(epoch) => Some(epoch),
        Placement::Queued | Placement::Refused => None,
    }
}
