//! Applies the submissions of clients.

use duroxide::Timestamp;
use duroxide::id::{ActivityId, CallId, CommitId, Identity, InstanceId, MessageId};
use duroxide::provider::{
    CommitError, IfExists, InstanceStatus, Placement, SendRequest, StartRequest, Submission, SubmitError, Submitted,
    Turn,
};

use super::model::{CrashRecord, DedupEntry, Instance, Model};

type Done = Result<Submitted, SubmitError>;

impl Model {
    pub(super) fn submit(&mut self, submission: &Submission) -> Done {
        match submission {
            Submission::Start(start) => self.start(start),
            Submission::Send(send) => self.send(send),
            Submission::Suspend(request) => self.suspend(request),
            Submission::Wake(request) => self.wake(request),
            Submission::Resume { instance, time } => self.resume(instance, *time),
            Submission::Drop { instance, message } => self.drop_message(instance, *message),
            Submission::Terminate { id, turn } => self.terminate(*id, turn),
            Submission::Graft(graft) => self.graft(graft),
            Submission::Redact(request) => self.redacted(request),
            Submission::Audited { entry, submission } => {
                let submitted = self.submit(submission)?;
                if submitted.written {
                    self.effects.audit.push((**entry).clone());
                }
                Ok(submitted)
            }
        }
    }

    /// An instance that is to be replaced was removed before; see [`super::replace`].
    fn start(&mut self, StartRequest { new, if_exists, lease, time, resent }: &StartRequest) -> Done {
        self.saw(*time);
        let (id, start) = (&new.instance, new.start.id);
        match self.dedup.get(&start.0) {
            Some(DedupEntry::Refused(Some(found))) if *if_exists != IfExists::Attach => {
                return Err(SubmitError::Exists(*found));
            }
            Some(DedupEntry::Refused(_)) => return Ok(self.unnumbered(id, false)),
            Some(DedupEntry::Done) => return Ok(self.unnumbered(id, true)),
            None => {}
        }
        if let Some(instance) = self.instances.get(id) {
            let status = instance.status;
            if instance.identity == Identity::from(start) {
                return Ok(self.unnumbered(id, true));
            }
            if *resent {
                self.record_as(start.0, DedupEntry::Refused(Some(status)));
            }
            let attached = *if_exists == IfExists::Attach;
            return if attached { Ok(self.unnumbered(id, false)) } else { Err(SubmitError::Exists(status)) };
        }
        let placement = self.create(new, lease.map(|lease| lease.epoch), *time);
        Ok(submitted(placement, start.into()))
    }

    /// Returns the answer to a request that has stored no new message and so has no message number.
    pub(super) fn unnumbered(&self, id: &InstanceId, written: bool) -> Submitted {
        let instance = self.instances.get(id);
        let owner = instance.and_then(|instance| instance.owner);
        Submitted { owner, identity: instance.map(|instance| instance.identity), number: None, written }
    }

    fn send(&mut self, SendRequest { to, message, lease, time, resent }: &SendRequest) -> Done {
        self.saw(*time);
        let refused = |found: Option<_>| Err(found.map_or(SubmitError::NotFound, SubmitError::Finished));
        let there = self.instances.get(to);
        let stored = there.is_some_and(|instance| instance.messages.contains_key(&message.id));
        match self.dedup.get(&message.id.0) {
            Some(DedupEntry::Refused(found)) => return refused(*found),
            Some(DedupEntry::Done) => return Ok(self.unnumbered(to, true)),
            None => {}
        }
        let found = there.map(|instance| instance.status);
        let live = there.filter(|instance| !instance.status.is_finished());
        let Some(identity) = live.map(|instance: &Instance| instance.identity) else {
            if *resent {
                self.record_as(message.id.0, DedupEntry::Refused(found));
            }
            return refused(found);
        };
        let placement = self.deliver(to, message.clone(), *time, true);
        if placement == Placement::Refused {
            return Err(SubmitError::Conflict);
        }
        let forwarded_by = lease.filter(|_| !resent).map(|lease| lease.epoch);
        self.leave_mail(to, placement, forwarded_by);
        let submitted = submitted(placement, identity);
        Ok(if stored { Submitted { number: None, ..submitted } } else { submitted })
    }

    fn resume(&mut self, instance: &InstanceId, time: Timestamp) -> Done {
        self.saw(time);
        let there = self.instances.get(instance).ok_or(SubmitError::NotFound)?;
        let suspended = there.status == InstanceStatus::Suspended;
        let mut parked = self.activities_of(instance, None);
        parked.retain(|id| self.activities.get(id).is_some_and(|activity| activity.parked));
        let written = suspended || !parked.is_empty();
        if written {
            self.resume_parts(instance, suspended, &parked, time);
        }
        Ok(self.unnumbered(instance, written))
    }

    /// Resumes an instance if it is suspended, and some of its parked activities. All builds may try them again.
    fn resume_parts(&mut self, id: &InstanceId, suspended: bool, parked: &[ActivityId], time: Timestamp) {
        if let Some(instance) = self.instances.get_mut(id) {
            (instance.updated_at, instance.is_changed) = (time, true);
            if suspended {
                instance.status = InstanceStatus::Running;
                (instance.suspension, instance.cause) = (None, None);
                instance.rejected_by.clear();
                instance.crashes = CrashRecord::default();
                let seq = instance.seq;
                self.effects.pauses.insert(seq, None);
                self.forget_rejections(seq, 0, CallId(0));
            }
        }
        for id in parked {
            self.change_activity(id, |activity| {
                activity.set_parked(false);
                (activity.rejected, activity.other_cause) = (None, None);
                activity.rejected_by.clear();
                activity.crashes = CrashRecord::default();
            });
            if let Some(seq) = self.activities.get(id).map(|activity| activity.seq) {
                self.forget_rejections(seq, id.execution.number, id.call);
            }
        }
        if suspended {
            self.requeue(id);
        }
        self.signals.changed(id);
    }

    fn drop_message(&mut self, instance: &InstanceId, id: MessageId) -> Done {
        let there = self.instances.get(instance).ok_or(SubmitError::NotFound)?;
        let written = there.messages.get(&id).is_some_and(|known| !known.is_start && known.call.is_none());
        if written {
            self.remove_message(instance, id);
            self.requeue(instance);
        }
        Ok(self.unnumbered(instance, written))
    }

    fn terminate(&mut self, id: CommitId, turn: &Turn) -> Done {
        let instance = &turn.execution.instance;
        if self.dedup.contains_key(&id.0) {
            return Ok(self.unnumbered(instance, true));
        }
        let there = self.instances.get(instance).ok_or(SubmitError::NotFound)?;
        if there.status.is_finished() {
            return Err(SubmitError::Finished(there.status));
        }
        match self.turn(id, None, turn) {
            Ok(_) => {
                self.record_as(id.0, DedupEntry::Done);
                Ok(self.unnumbered(instance, true))
            }
            Err(CommitError::Failed(reason)) => Err(SubmitError::Failed(reason)),
            Err(_) => Err(SubmitError::Conflict),
        }
    }
}

fn submitted(placement: Placement, identity: Identity) -> Submitted {
    match placement {
        Placement::Owned { epoch, identity, number } => {
            Submitted { owner: Some(epoch), identity: Some(identity), number, written: true }
        }
        Placement::Queued | Placement::Refused => {
            Submitted { owner: None, identity: Some(identity), number: None, written: true }
        }
    }
}
