//! The submissions of clients.

use duroxide::id::{CommitId, Identity, InstanceId, MessageId};
use duroxide::provider::*;

use crate::rows::{Done, Instance, Rows, Stored};

type Answer = Result<Submitted, SubmitError>;

impl Rows {
    pub(crate) fn submit(&mut self, submission: Submission) -> Answer {
        match submission {
            Submission::Start(start) => self.start(start),
            Submission::Send(send) => self.send(send),
            Submission::Suspend(request) => self.suspend(request),
            Submission::Wake(request) => self.wake(&request),
            Submission::Resume { instance, time } => self.resume(&instance, time),
            Submission::Drop { instance, message } => self.drop_message(&instance, message),
            Submission::Terminate { id, turn } => self.terminate(id, *turn),
            // Clients send them only to a provider that has an `Admin`.
            Submission::Graft(_) | Submission::Redact(_) => Err(SubmitError::Failed("there is no `Admin`".to_owned())),
            // This provider has no `Admin`, and so keeps no audit.
            Submission::Audited { submission, .. } => self.submit(*submission),
        }
    }

    fn start(&mut self, StartRequest { new, if_exists, lease, time, resent }: StartRequest) -> Answer {
        self.saw(time);
        let (id, start) = (new.instance.clone(), new.start.id);
        match self.done.get(&start.0) {
            Some(Done::Refused(Some(found))) if if_exists != IfExists::Attach => {
                return Err(SubmitError::Exists(*found));
            }
            Some(Done::Refused(_)) => return Ok(self.unnumbered(&id, false)),
            Some(Done::CarriedOut) => return Ok(self.unnumbered(&id, true)),
            None => {}
        }
        if let Some(instance) = self.instances.get(&id) {
            let status = instance.status();
            if instance.start == start {
                return Ok(self.unnumbered(&id, true));
            }
            if if_exists != IfExists::Replace || !status.is_finished() {
                if resent {
                    self.done.insert(start.0, Done::Refused(Some(status)));
                }
                let attached = if_exists == IfExists::Attach;
                return if attached { Ok(self.unnumbered(&id, false)) } else { Err(SubmitError::Exists(status)) };
            }
            self.remove_instance(&id);
        }
        let placement = self.create(new, lease.map(|lease| lease.epoch), time);
        Ok(numbered(placement, start.into()))
    }

    fn send(&mut self, SendRequest { to, message, lease, time, resent }: SendRequest) -> Answer {
        self.saw(time);
        let refused = |found: Option<_>| Err(found.map_or(SubmitError::NotFound, SubmitError::Finished));
        match self.done.get(&message.id.0) {
            Some(Done::Refused(found)) => return refused(*found),
            Some(Done::CarriedOut) => return Ok(self.unnumbered(&to, true)),
            None => {}
        }
        let found = self.instances.get(&to);
        let Some(identity) = found.filter(|instance| instance.finished.is_none()).map(Instance::identity) else {
            let found = found.map(Instance::status);
            if resent {
                self.done.insert(message.id.0, Done::Refused(found));
            }
            return refused(found);
        };
        let is_stored = self.messages.iter().any(|stored| stored.to == to && stored.row.id == message.id);
        let placement = self.deliver(&to, message, time, true);
        if placement == Placement::Refused {
            return Err(SubmitError::Conflict);
        }
        self.leave_mail(&to, placement, lease.filter(|_| !resent).map(|lease| lease.epoch));
        let answer = numbered(placement, identity);
        Ok(if is_stored { Submitted { number: None, ..answer } } else { answer })
    }

    fn resume(&mut self, id: &InstanceId, time: duroxide::Timestamp) -> Answer {
        self.saw(time);
        let is_paused = self.end_pause(id);
        let instance = self.instances.get_mut(id).ok_or(SubmitError::NotFound)?;
        let parked = self.activities.iter_mut().filter(|(activity, _)| activity.execution.instance == *id);
        let parked = parked.map(|(_, activity)| &mut activity.tenancy);
        let mut written = is_paused;
        for tenancy in parked.chain([&mut instance.tenancy]).filter(|tenancy| tenancy.set_aside) {
            tenancy.forget_rejections();
            tenancy.made_progress();
            written = true;
        }
        if written {
            instance.updated_at = time;
        }
        Ok(self.unnumbered(id, written))
    }

    /// Pauses an instance until it is resumed, or until a claim ends the pause.
    fn suspend(&mut self, request: SuspendRequest) -> Answer {
        self.saw(request.time);
        let id = request.instance;
        if self.done.contains_key(&request.id.0) {
            return Ok(self.unnumbered(&id, true));
        }
        let instance = self.instances.get_mut(&id).ok_or(SubmitError::NotFound)?;
        if instance.finished.is_some() {
            return Err(SubmitError::Finished(instance.status()));
        }
        instance.paused = Some((request.reason, request.until));
        let tenancy = &mut instance.tenancy;
        (tenancy.owner, tenancy.alone, tenancy.crashes, tenancy.suspect, tenancy.lost_by) =
            (None, false, 0, false, None);
        instance.updated_at = request.time;
        self.done.insert(request.id.0, Done::CarriedOut);
        Ok(self.unnumbered(&id, true))
    }

    /// Makes delayed work due: activities without an owner, and the start.
    fn wake(&mut self, WakeRequest { id, instance: name, call, time }: &WakeRequest) -> Answer {
        self.saw(*time);
        if self.done.contains_key(&id.0) {
            return Ok(self.unnumbered(name, true));
        }
        let instance = self.instances.get_mut(name).ok_or(SubmitError::NotFound)?;
        if instance.finished.is_some() {
            return Err(SubmitError::Finished(instance.status()));
        }
        let mut written = false;
        for (id, activity) in &mut self.activities {
            let fits = call.is_none_or(|call| id.call == call && id.execution == instance.execution);
            if id.execution.instance == *name && fits && activity.tenancy.is_free() && activity.ready > Ready::At(*time)
            {
                (activity.ready, written) = (Ready::AtOnce(*time), true);
            }
        }
        let is_delayed = |stored: &&mut Stored| {
            let row = &stored.row;
            stored.to == *name && row.lane == Lane::Start && row.visible_at.is_some_and(|due| due > *time)
        };
        let mut mail = None;
        if let Some(start) = self.messages.iter_mut().find(is_delayed).filter(|_| call.is_none()) {
            (start.row.visible_at, start.at, written) = (Some(*time), *time, true);
            if let Some(epoch) = instance.tenancy.owner {
                instance.arrivals += 1;
                start.row.number = Some(instance.arrivals);
                let (identity, number) = (instance.identity(), start.row.number);
                mail = Some(Placement::Owned { epoch, identity, number });
            }
        }
        mail.into_iter().for_each(|placement| self.leave_mail(name, placement, None));
        if written {
            self.done.insert(id.0, Done::CarriedOut);
        }
        Ok(self.unnumbered(name, written))
    }

    fn drop_message(&mut self, id: &InstanceId, message: MessageId) -> Answer {
        if !self.instances.contains_key(id) {
            return Err(SubmitError::NotFound);
        }
        let before = self.messages.len();
        self.remove_messages(id, |row| row.id == message && row.lane != Lane::Start && row.call.is_none());
        Ok(self.unnumbered(id, self.messages.len() < before))
    }

    fn terminate(&mut self, id: CommitId, turn: Turn) -> Answer {
        let instance = turn.execution.instance.clone();
        if self.done.contains_key(&id.0) {
            return Ok(self.unnumbered(&instance, true));
        }
        let found = self.instances.get(&instance).ok_or(SubmitError::NotFound)?;
        if found.finished.is_some() {
            return Err(SubmitError::Finished(found.status()));
        }
        self.turn(id, None, turn).map_err(|_| SubmitError::Conflict)?;
        self.done.insert(id.0, Done::CarriedOut);
        Ok(self.unnumbered(&instance, true))
    }

    /// The answer to a request that has given no number to a message.
    fn unnumbered(&self, id: &InstanceId, written: bool) -> Submitted {
        let found = self.instances.get(id);
        let owner = found.and_then(|instance| instance.tenancy.owner);
        Submitted { owner, identity: found.map(Instance::identity), number: None, written }
    }
}

fn numbered(placement: Placement, identity: Identity) -> Submitted {
    let number = if let Placement::Owned { number, .. } = placement { number } else { None };
    Submitted { owner: placement.owner(), identity: Some(identity), number, written: true }
}
