//! Commits of turns: a turn is first checked as a whole, and then written by code that cannot fail.

use std::collections::HashSet;

use duroxide::Timestamp;
use duroxide::id::{ActivityId, CallId, CommitId, Epoch, EventId, ExecutionId, InstanceId};
use duroxide::provider::{
    ChildPlacement, CommitError, Committed, InstanceStatus, Lease, NewActivity, NewChild, NewInstance, Outgoing,
    Placement, Ready, Then, Turn,
};

use super::model::{Activity, CrashRecord, Instance, Model, Origin, Queueing};
use crate::events;
use crate::rows::label;

impl Model {
    /// Commits a turn of a lease; or, without a lease, of a client that terminates the instance.
    pub(super) fn turn(&mut self, id: CommitId, lease: Option<&Lease>, turn: &Turn) -> Result<Committed, CommitError> {
        self.saw(turn.time);
        let instance = self.instances.get(&turn.execution.instance);
        if instance.is_some_and(|instance| instance.last_commit == Some(id)) {
            return Ok(Committed { repeated: true, ..Committed::default() });
        }
        match &turn.creates {
            Some(new) => {
                let owner = self.check_new(new, lease, turn)?;
                self.add_instance(new, Some(owner), turn.time);
            }
            None => self.check(instance.ok_or(CommitError::Fenced)?, lease, turn)?,
        }
        Ok(self.write(id, lease, turn))
    }

    /// Checks that a first turn may create its instance. Returns the epoch that owns the instance.
    fn check_new(&self, new: &NewInstance, lease: Option<&Lease>, turn: &Turn) -> Result<Epoch, CommitError> {
        let taken = self.exists(&new.instance) || self.dedup.contains_key(&new.start.id.0);
        if taken || turn.execution != new.first_execution() {
            return Err(CommitError::Conflict);
        }
        let member = lease.filter(|lease| self.members.contains(lease.epoch)).ok_or(CommitError::Fenced)?;
        if new.version.is_none() && self.members.is_outdated(member.epoch, &new.name) {
            return Err(CommitError::Conflict);
        }
        let nothing_read = turn.after == EventId(0) && turn.consumed.is_empty() && turn.outcomes.is_empty();
        if nothing_read { Ok(member.epoch) } else { Err(CommitError::Conflict) }
    }

    fn check(&self, instance: &Instance, lease: Option<&Lease>, turn: &Turn) -> Result<(), CommitError> {
        let rejects = matches!(turn.then, Then::Suspend { .. });
        let is_fenced =
            |lease: &Lease| instance.owner != Some(lease.epoch) || (rejects && !self.members.contains(lease.epoch));
        if lease.is_some_and(is_fenced) {
            return Err(CommitError::Fenced);
        }
        let current = instance.current(&turn.execution.instance) == turn.execution && instance.last_event == turn.after;
        let live = instance.status == InstanceStatus::Running
            || (matches!(turn.then, Then::Finish { .. }) && instance.status == InstanceStatus::Suspended);
        let consumed = turn.consumed.iter().all(|message| instance.messages.contains_key(message));
        let outcomes = turn.outcomes.iter().all(|(call, attempt)| {
            let id = ActivityId { execution: turn.execution.clone(), call: *call };
            let owned = |a: &Activity| lease.is_none_or(|lease| a.owner == Some(lease.epoch));
            self.activities.get(&id).is_some_and(|a| owned(a) && a.attempt == *attempt)
        });
        if current && live && consumed && outcomes { Ok(()) } else { Err(CommitError::Conflict) }
    }

    fn write(&mut self, id: CommitId, lease: Option<&Lease>, turn: &Turn) -> Committed {
        let execution = &turn.execution;
        let this = &execution.instance;
        for message in &turn.consumed {
            self.remove_message(this, *message);
        }
        let activity = |call| ActivityId { execution: execution.clone(), call };
        let by = lease.map(|lease| lease.epoch);
        for call in turn.outcomes.iter().map(|(call, _)| call).chain(&turn.cancelled_activities) {
            self.remove_activity(&activity(*call), by);
        }
        self.cancel_timers(turn);
        let seq = self.instances.get(this).map_or(0, |instance| instance.seq);
        for new in &turn.activities {
            let owner = lease.filter(|_| new.eager).map(|lease| lease.epoch);
            self.schedule(seq, activity(new.call), new, owner, turn.time);
        }
        if let Some(instance) = self.instances.get_mut(this) {
            instance.is_changed = true;
            instance.last_commit = Some(id);
            instance.updated_at = turn.time;
            instance.version = turn.version.as_ref().map(ToString::to_string).or(instance.version.take());
            instance.last_event = turn.last_event();
        }
        let rows = events::pack(&turn.events).into_iter().map(|row| (seq, execution.number, row));
        self.effects.events.extend(rows);
        self.then(turn, lease);
        let starts = turn.starts.iter().map(|child| self.start_child(this, child, by, turn.time)).collect();
        let messages = turn.messages.iter().map(|out| self.send_out(out, by, turn.time)).collect();
        Committed { repeated: false, starts, messages }
    }

    fn cancel_timers(&mut self, turn: &Turn) {
        if turn.cancelled_messages.is_empty() {
            return;
        }
        let calls: HashSet<_> = turn.cancelled_messages.iter().copied().collect();
        let (this, number) = (&turn.execution.instance, turn.execution.number);
        self.remove_messages(this, |known| {
            let called = known.call.is_some_and(|call| calls.contains(&call));
            called && known.is_delayed && known.execution == Some(number)
        });
        if let Some(instance) = self.instances.get(this).filter(|instance| instance.origin != Origin::New) {
            let seq = instance.seq;
            self.effects.cancelled_timers.extend(calls.into_iter().map(|call| (seq, number, call)));
        }
    }

    fn schedule(&mut self, seq: i64, id: ActivityId, new: &NewActivity, owner: Option<Epoch>, time: Timestamp) {
        let activity = Activity { owner, ..Activity::new(seq, new, Ready::AtOnce(time)) };
        self.activities.insert(id.clone(), activity);
        self.change_activity(&id, |_| ());
    }

    fn then(&mut self, turn: &Turn, lease: Option<&Lease>) {
        let (execution, this) = (&turn.execution, &turn.execution.instance);
        let by = lease.map(|lease| lease.epoch);
        let build = by.and_then(|epoch| self.members.build(epoch)).map(str::to_owned);
        let Some(instance) = self.instances.get_mut(this) else { return };
        let seq = instance.seq;
        instance.crashes = CrashRecord::default();
        if !matches!(turn.then, Then::Suspend { .. }) {
            instance.waits = turn.waits.clone().filter(|_| matches!(turn.then, Then::Continue));
        }
        let has_cause = matches!(turn.then, Then::Suspend { .. } | Then::Finish { .. });
        instance.cause = turn.cause.clone().filter(|_| has_cause);
        match &turn.then {
            Then::Continue => {
                instance.suspension = None;
                instance.rejected_by.clear();
            }
            Then::Suspend { reason } => {
                instance.owner = None;
                let has_advanced = instance.suspension.replace(reason.clone()).is_none();
                self.reject(this, has_advanced, build);
            }
            Then::Finish { status } => {
                instance.status = *status;
                instance.suspension = None;
                instance.finished_at = Some(turn.time);
                instance.owner = None;
                instance.queueing = Queueing::Rebuild;
                // A turn without events leaves the outcome to the waiting client, which reads it.
                match turn.events.last() {
                    Some(outcome) => self.signals.finished(execution, *status, Some(outcome)),
                    None => self.signals.changed(this),
                }
                self.sweep(execution, by);
                self.remove_messages(this, |_| true);
                self.effects.emptied.push(seq);
            }
            Then::ContinueAsNew { version } => {
                instance.version = version.as_ref().map(ToString::to_string);
                instance.suspension = None;
                instance.rejected_by.clear();
                instance.execution = execution.number + 1;
                instance.last_event = EventId(0);
                self.effects.continued.push((seq, execution.number, turn.time));
                self.sweep(execution, by);
                self.remove_messages(this, |known| known.execution == Some(execution.number));
                self.effects.ended.push((seq, execution.number));
            }
        }
    }

    /// Records that a build has rejected an instance. Suspends the instance if no member can try it.
    fn reject(&mut self, id: &InstanceId, has_advanced: bool, build: Option<String>) {
        let latest = self.latest();
        let Some(instance) = self.instances.get_mut(id) else { return };
        let seq = instance.seq;
        if has_advanced {
            // Since the last rejection: each build may try it again.
            instance.rejected_by.clear();
        }
        instance.rejected_by.extend(build.clone());
        let (name, version) = (instance.name.as_str(), instance.version.as_deref());
        if self.members.can_try(name, version, &instance.rejected_by) {
            instance.updated_at = latest;
        } else {
            instance.status = InstanceStatus::Suspended;
        }
        if has_advanced {
            self.forget_rejections(seq, 0, CallId(0));
        }
        self.effects.rejections.extend(build.map(|build| (seq, 0, CallId(0), build)));
        // It may have a request to terminate, which is now carried out by any node.
        self.signals.work = true;
        self.signals.changed(id);
        self.requeue(id);
    }

    /// Removes the activities of an ended execution, except detached ones.
    pub(super) fn sweep(&mut self, execution: &ExecutionId, by: Option<Epoch>) {
        for id in self.activities_of(&execution.instance, Some(execution.number)) {
            if self.activities.get(&id).is_some_and(|activity| !activity.detached) {
                self.remove_activity(&id, by);
            }
        }
    }

    pub(super) fn start_child(
        &mut self,
        from: &InstanceId,
        child: &NewChild,
        by: Option<Epoch>,
        time: Timestamp,
    ) -> ChildPlacement {
        if self.exists(&child.new.instance) {
            let answer = self.deliver(from, child.if_taken.clone(), time, false);
            return ChildPlacement { start: Placement::Refused, answer: Some(answer) };
        }
        let start = self.create(&child.new, by, time);
        let answer = child.accepted.clone().map(|accepted| self.deliver(from, accepted, time, false));
        ChildPlacement { start, answer }
    }

    pub(super) fn send_out(&mut self, out: &Outgoing, by: Option<Epoch>, time: Timestamp) -> Placement {
        let found = self.instances.get(&out.to).map(|instance| instance.identity);
        if out.identity.is_some_and(|wanted| found.is_some_and(|found| !found.matches(wanted))) {
            return Placement::Refused;
        }
        let placement = self.deliver(&out.to, out.message.clone(), time, false);
        self.leave_mail(&out.to, placement, by);
        placement
    }

    /// Creates an instance with its start message. If it is eager, the epoch owns it, provided that the epoch is a
    /// member and no other member has a later version.
    pub(super) fn create(&mut self, new: &NewInstance, by: Option<Epoch>, time: Timestamp) -> Placement {
        let outdated = |epoch| new.version.is_none() && self.members.is_outdated(epoch, &new.name);
        let owner = by.filter(|epoch| new.eager && self.members.contains(*epoch) && !outdated(*epoch));
        self.add_instance(new, owner, time);
        self.deliver(&new.instance, new.start.clone(), time, false)
    }

    /// Adds an instance without messages. Its row in `instances` was written when its id was reserved.
    pub(super) fn add_instance(&mut self, new: &NewInstance, owner: Option<Epoch>, time: Timestamp) {
        let identity = new.start.id.into();
        let seq = match self.reserved.get_mut(&new.instance) {
            Some(reserved) if reserved.identity == identity => {
                reserved.is_used = true;
                reserved.seq
            }
            // The row has the columns of another entry.
            _ => {
                self.is_split = true;
                0
            }
        };
        let labels = new.labels.iter().map(|(name, value)| (seq, label(name), label(value)));
        self.effects.labels.extend(labels);
        let version = new.version.as_ref().map(ToString::to_string);
        let instance = Instance::new(seq, identity, new.name.clone(), version, time);
        let instance = Instance { owner, is_changed: true, ..instance };
        self.instances.insert(new.instance.clone(), instance);
    }
}
