//! Pauses of instances, and delayed work that a client makes due at once.

use duroxide::Timestamp;
use duroxide::id::InstanceId;
use duroxide::provider::{
    InstanceStatus, Lane, Placement, Ready, StoredPause, SubmitError, Submitted, SuspendRequest, WakeRequest,
};

use super::effects::WokenStart;
use super::model::{Activity, CrashRecord, DedupEntry, Model};
use crate::rows::stored_ready;

impl Model {
    pub(super) fn suspend(&mut self, request: &SuspendRequest) -> Result<Submitted, SubmitError> {
        let SuspendRequest { id, instance: name, reason, cause, until, time } = request;
        self.saw(*time);
        if self.dedup.contains_key(&id.0) {
            return Ok(self.unnumbered(name, true));
        }
        let instance = self.instances.get_mut(name).ok_or(SubmitError::NotFound)?;
        if instance.status.is_finished() {
            return Err(SubmitError::Finished(instance.status));
        }
        instance.status = InstanceStatus::Suspended;
        (instance.owner, instance.crashes) = (None, CrashRecord::default());
        (instance.updated_at, instance.cause) = (*time, Some(cause.clone()));
        self.effects.pauses.insert(instance.seq, Some(StoredPause { reason: reason.clone(), until: *until }));
        self.requeue(name);
        self.record_as(id.0, DedupEntry::Done);
        // It may have a request to terminate, which is now carried out by any node.
        self.signals.work = true;
        self.signals.changed(name);
        Ok(self.unnumbered(name, true))
    }

    pub(super) fn wake(&mut self, request: &WakeRequest) -> Result<Submitted, SubmitError> {
        let WakeRequest { id, instance: name, call, time } = request;
        self.saw(*time);
        if self.dedup.contains_key(&id.0) {
            return Ok(self.unnumbered(name, true));
        }
        let instance = self.instances.get(name).ok_or(SubmitError::NotFound)?;
        if instance.status.is_finished() {
            return Err(SubmitError::Finished(instance.status));
        }
        let (current, later) = (instance.execution, stored_ready(Ready::At(*time)));
        let mut activities = self.activities_of(name, None);
        activities.retain(|id| call.is_none_or(|call| id.call == call && id.execution.number == current));
        let waits = |a: &Activity| a.owner.is_none() && !a.parked && a.ready_at > later;
        activities.retain(|id| self.activities.get(id).is_some_and(waits));
        for activity in &activities {
            let ready = stored_ready(Ready::AtOnce(*time));
            self.change_activity(activity, |activity| activity.ready_at = ready);
        }
        let written = (call.is_none() && self.wake_start(name, *time)) | !activities.is_empty();
        if written {
            self.record_as(id.0, DedupEntry::Done);
        }
        Ok(self.unnumbered(name, written))
    }

    /// Makes the delayed start of an instance due. Returns true if it has one.
    fn wake_start(&mut self, name: &InstanceId, time: Timestamp) -> bool {
        let stored = self.delayed_starts.get(name).copied();
        let Some(instance) = self.instances.get_mut(name) else { return false };
        let is_removed = |id| self.effects.removed_messages.contains(&(instance.seq, id));
        let stored = stored.filter(|(id, due)| *due > time && !is_removed(*id)).map(|(id, _)| id);
        let new = instance.new_messages.values_mut().map(|message| &mut message.row);
        let new = new.filter(|row| row.lane == Lane::Start).find(|row| row.visible_at.is_some_and(|due| due > time));
        if stored.is_none() && new.is_none() {
            return false;
        }
        instance.is_changed = true;
        instance.arrivals += u64::from(instance.owner.is_some());
        let number = instance.owner.map(|_| instance.arrivals);
        if let Some(id) = stored {
            self.effects.woken_starts.insert(instance.seq, WokenStart { id, time, number });
            self.delayed_starts.insert(name.clone(), (id, time));
        }
        let mut woken = stored;
        if let Some(row) = new {
            (row.visible_at, row.number) = (Some(time), number);
            woken = Some(row.id);
        }
        if let Some(known) = woken.and_then(|id| instance.messages.get_mut(&id)) {
            known.number = number;
        }
        match instance.owner {
            Some(epoch) => {
                let placement = Placement::Owned { epoch, identity: instance.identity, number };
                self.leave_mail(name, placement, None);
            }
            None => self.requeue(name),
        }
        true
    }
}
