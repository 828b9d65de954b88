//! Commits of turns: a turn is first checked as a whole, and then written by code that cannot fail.

use super::state::{Activity, CrashRecord, Execution, Instance, State};
use super::*;
use crate::id::{ActivityId, CommitId};

impl State {
    /// Commits a turn of a lease; or, without a lease, of a client that terminates the instance.
    pub(super) fn turn(&mut self, id: CommitId, lease: Option<&Lease>, turn: Turn) -> Result<Committed, CommitError> {
        self.saw(turn.time);
        let instance = self.instances.get(&turn.execution.instance);
        if instance.is_some_and(|instance| instance.last_commit == Some(id)) {
            return Ok(Committed { repeated: true, ..Committed::default() });
        }
        match &turn.creates {
            Some(new) => {
                let owner = self.check_new(new, lease, &turn)?;
                self.add_instance(new, Some(owner), turn.time);
            }
            None => self.check(instance.ok_or(CommitError::Fenced)?, lease, &turn)?,
        }
        Ok(self.write(id, lease, turn))
    }

    /// Checks that a first turn may create its instance. Returns the epoch that owns the instance.
    fn check_new(&self, new: &NewInstance, lease: Option<&Lease>, turn: &Turn) -> Result<Epoch, CommitError> {
        let taken = self.instances.contains_key(&new.instance) || self.is_recorded(new.start.id.0);
        if taken || turn.execution != new.first_execution() {
            return Err(CommitError::Conflict);
        }
        let member = lease.filter(|lease| self.is_member(lease.epoch)).ok_or(CommitError::Fenced)?;
        if new.version.is_none() && self.is_outdated(member.epoch, &new.name) {
            return Err(CommitError::Conflict);
        }
        let nothing_read = turn.after == EventId(0) && turn.consumed.is_empty() && turn.outcomes.is_empty();
        if nothing_read { Ok(member.epoch) } else { Err(CommitError::Conflict) }
    }

    fn check(&self, instance: &Instance, lease: Option<&Lease>, turn: &Turn) -> Result<(), CommitError> {
        if lease.is_some_and(|lease| instance.owner != Some(lease.epoch)) {
            return Err(CommitError::Fenced);
        }
        let current =
            instance.current(&turn.execution.instance) == turn.execution && instance.last_event() == turn.after;
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

    fn write(&mut self, id: CommitId, lease: Option<&Lease>, turn: Turn) -> Committed {
        let execution = &turn.execution;
        let this = &execution.instance;
        for message in &turn.consumed {
            self.remove_message(this, message);
        }
        let activity = |call| ActivityId { execution: execution.clone(), call };
        let by = lease.map(|lease| lease.epoch);
        for call in turn.outcomes.iter().map(|(call, _)| call).chain(&turn.cancelled_activities) {
            self.remove_activity(&activity(*call), by);
        }
        if !turn.cancelled_messages.is_empty() {
            self.remove_messages_for(execution, |row| {
                row.visible_at.is_some() && row.call.is_some_and(|call| turn.cancelled_messages.contains(&call))
            });
        }
        for new in turn.activities {
            let owner = lease.filter(|_| new.eager).map(|lease| lease.epoch);
            self.schedule(activity(new.call), new, owner, turn.time);
        }
        if let Some(instance) = self.instances.get_mut(this) {
            instance.last_commit = Some(id);
            instance.updated_at = turn.time;
            instance.version = turn.version.or(instance.version.take());
            instance.executions.entry(execution.number).or_default().events.extend(turn.events);
            if !matches!(turn.then, Then::Suspend { .. }) {
                instance.waits = turn.waits.filter(|_| matches!(turn.then, Then::Continue));
            }
            let has_cause = matches!(turn.then, Then::Suspend { .. } | Then::Finish { .. });
            instance.cause = turn.cause.filter(|_| has_cause);
        }
        self.then(execution, lease, turn.then, turn.time);
        let starts = turn.starts.into_iter().map(|child| self.start_child(this, child, by, turn.time)).collect();
        let messages = turn.messages.into_iter().map(|out| self.send_out(out, by, turn.time)).collect();
        self.reindex_instance(this);
        Committed { repeated: false, starts, messages }
    }

    fn schedule(&mut self, id: ActivityId, new: NewActivity, owner: Option<Epoch>, time: Timestamp) {
        let activity = Activity { owner, ..Activity::new(new, Ready::AtOnce(time)) };
        self.activities.insert(id.clone(), activity);
        self.change_activity(&id, |_| ());
    }

    fn then(&mut self, execution: &ExecutionId, lease: Option<&Lease>, then: Then, time: Timestamp) {
        let this = &execution.instance;
        let build = lease.and_then(|lease| self.nodes.get(&lease.epoch)).map(|node| node.info.build.clone());
        let Some(instance) = self.instances.get_mut(this) else { return };
        match then {
            Then::Continue => {
                instance.suspension = None;
                instance.rejected_by.clear();
                instance.crashes = CrashRecord::default();
            }
            Then::Suspend { reason } => {
                instance.status = InstanceStatus::Suspended;
                instance.suspension = Some(reason);
                instance.owner = None;
                instance.crashes = CrashRecord::default();
                instance.rejected_by.extend(build);
                // It may have a request to terminate, which is now carried out by any node.
                self.signals.work = true;
                self.signals.changed(this);
                self.settle_rejected_instance(this);
            }
            Then::Finish { status } => {
                instance.status = status;
                (instance.paused, instance.suspension) = (None, None);
                instance.finished_at = Some(time);
                instance.owner = None;
                instance.crashes = CrashRecord::default();
                let outcome = instance.executions.get(&execution.number).and_then(|e| e.events.last());
                self.signals.finished(execution, status, outcome);
                self.sweep(execution, lease.map(|lease| lease.epoch));
                self.remove_messages(this);
            }
            Then::ContinueAsNew { version } => {
                instance.version = version;
                instance.suspension = None;
                instance.rejected_by.clear();
                instance.crashes = CrashRecord::default();
                instance.execution = execution.number + 1;
                instance.executions.entry(execution.number).or_default().continued_at = Some(time);
                instance.executions.insert(execution.number + 1, Execution::default());
                self.sweep(execution, lease.map(|lease| lease.epoch));
                self.remove_messages_for(execution, |_| true);
            }
        }
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
        child: NewChild,
        by: Option<Epoch>,
        time: Timestamp,
    ) -> ChildPlacement {
        if self.instances.contains_key(&child.new.instance) {
            let answer = self.deliver(from, child.if_taken, time, false);
            return ChildPlacement { start: Placement::Refused, answer: Some(answer) };
        }
        let start = self.create(child.new, by, time);
        let answer = child.accepted.map(|accepted| self.deliver(from, accepted, time, false));
        ChildPlacement { start, answer }
    }

    pub(super) fn send_out(&mut self, out: Outgoing, by: Option<Epoch>, time: Timestamp) -> Placement {
        let found = self.instances.get(&out.to).map(Instance::identity);
        if out.identity.is_some_and(|wanted| found.is_some_and(|found| !found.matches(wanted))) {
            return Placement::Refused;
        }
        let placement = self.deliver(&out.to, out.message, time, false);
        self.leave_mail(&out.to, placement, by);
        placement
    }

    /// Creates an instance with its start message. If it is eager, the epoch owns it, provided that the epoch is a
    /// member and no other member has a later version.
    pub(super) fn create(&mut self, new: NewInstance, by: Option<Epoch>, time: Timestamp) -> Placement {
        let outdated = |epoch| new.version.is_none() && self.is_outdated(epoch, &new.name);
        let owner = by.filter(|epoch| new.eager && self.is_member(*epoch) && !outdated(*epoch));
        self.add_instance(&new, owner, time);
        self.deliver(&new.instance, new.start, time, false)
    }
}
