//! The commits of nodes. The order of checks is: done already, fenced, preconditions. What passes them cannot fail.

use duroxide::id::{ActivityId, CommitId, Epoch, EventId, ExecutionId, InstanceId, MessageId};
use duroxide::provider::*;

use crate::rows::{Activity, Instance, Rows, Tenancy};

type Answer = Result<Committed, CommitError>;

impl Rows {
    pub(crate) fn commit(&mut self, lease: &Lease, commit: Commit) -> Answer {
        match commit.write {
            Write::Turn(turn) => self.turn(commit.id, Some(lease), *turn),
            Write::Outcome { tenure, message } => self.outcome(lease, &tenure, message),
            Write::Retry { tenure, visible_at, .. } => {
                let activity = self.release_activity(lease, &tenure)?;
                activity.attempt += 1;
                activity.ready = Ready::At(visible_at);
                activity.tenancy.made_progress();
                Ok(Committed::default())
            }
            Write::Park { tenure, reason, .. } => {
                let build = self.nodes.get(&lease.epoch).map(|node| node.info.build.clone());
                self.release_activity(lease, &tenure)?.tenancy.reject(reason, build);
                self.settle_rejected();
                Ok(Committed::default())
            }
            Write::ReleaseActivity { tenure } => self.release_activity(lease, &tenure).map(|_| Committed::default()),
            Write::ReleaseInstance { execution, claim } => {
                let instance = self.instances.get_mut(&execution.instance);
                let instance = instance.filter(|found| found.identity() == execution.identity);
                release(&mut instance.ok_or(CommitError::Fenced)?.tenancy, lease, claim)
            }
        }
    }

    fn outcome(&mut self, lease: &Lease, tenure: &Tenure, message: MessageRow) -> Answer {
        self.release_activity(lease, tenure)?;
        self.remove_activity(&tenure.activity, None);
        let to = &tenure.activity.execution.instance;
        let placement = self.deliver(to, message, self.latest, false);
        self.leave_mail(to, placement, Some(lease.epoch));
        Ok(Committed { messages: vec![placement], ..Committed::default() })
    }

    /// Ends a tenure. A repetition finds that the lease does not own the activity, or owns it by another claim.
    fn release_activity(&mut self, lease: &Lease, tenure: &Tenure) -> Result<&mut Activity, CommitError> {
        let activity = self.activities.get_mut(&tenure.activity).ok_or(CommitError::Fenced)?;
        if activity.tenancy.is_owned_by(lease.epoch) && activity.attempt != tenure.attempt {
            return Err(CommitError::Conflict);
        }
        release(&mut activity.tenancy, lease, tenure.claim)?;
        Ok(activity)
    }

    /// Commits a turn of a lease; or, without a lease, of a client that terminates the instance.
    pub(crate) fn turn(&mut self, id: CommitId, lease: Option<&Lease>, turn: Turn) -> Answer {
        self.saw(turn.time);
        let instance = self.instances.get(&turn.execution.instance);
        if instance.is_some_and(|instance| instance.last_commit == Some(id)) {
            return Ok(Committed { repeated: true, ..Committed::default() });
        }
        match &turn.creates {
            Some(new) => {
                let owner = self.check_first(new, lease, &turn)?;
                self.insert(new, Some(owner), turn.time);
            }
            None => self.check(instance.ok_or(CommitError::Fenced)?, lease, &turn)?,
        }
        Ok(self.write(id, lease, turn))
    }

    /// Checks that a first turn may create its instance, and returns the owner.
    fn check_first(&self, new: &NewInstance, lease: Option<&Lease>, turn: &Turn) -> Result<Epoch, CommitError> {
        let is_taken = self.instances.contains_key(&new.instance) || self.done.contains_key(&new.start.id.0);
        let nothing_read = turn.after == EventId(0) && turn.consumed.is_empty() && turn.outcomes.is_empty();
        if is_taken || turn.execution != new.first_execution() {
            return Err(CommitError::Conflict);
        }
        let member = lease.filter(|lease| self.nodes.contains_key(&lease.epoch)).ok_or(CommitError::Fenced)?;
        let is_left = new.version.is_none() && self.is_outdated(member.epoch, &new.name);
        if nothing_read && !is_left { Ok(member.epoch) } else { Err(CommitError::Conflict) }
    }

    fn check(&self, instance: &Instance, lease: Option<&Lease>, turn: &Turn) -> Result<(), CommitError> {
        if lease.is_some_and(|lease| !instance.tenancy.is_owned_by(lease.epoch)) {
            return Err(CommitError::Fenced);
        }
        let execution = &turn.execution;
        let is_live = match instance.status() {
            InstanceStatus::Running => true,
            InstanceStatus::Suspended => matches!(turn.then, Then::Finish { .. }),
            _ => false,
        };
        let is_stored =
            |message: &MessageId| self.messages.iter().any(|m| m.to == execution.instance && m.row.id == *message);
        let is_owned = |(call, attempt): &(_, u32)| {
            let activity = self.activities.get(&ActivityId { execution: execution.clone(), call: *call });
            activity.is_some_and(|activity| {
                let owned = lease.is_none_or(|lease| activity.tenancy.is_owned_by(lease.epoch));
                owned && activity.attempt == *attempt
            })
        };
        let expected = instance.execution == *execution
            && self.last_event(execution) == turn.after
            && is_live
            && turn.consumed.iter().all(is_stored)
            && turn.outcomes.iter().all(is_owned);
        if expected { Ok(()) } else { Err(CommitError::Conflict) }
    }

    fn write(&mut self, id: CommitId, lease: Option<&Lease>, turn: Turn) -> Committed {
        let (execution, by) = (&turn.execution, lease.map(|lease| lease.epoch));
        let this = &execution.instance;
        self.remove_messages(this, |row| turn.consumed.contains(&row.id));
        let activity = |call| ActivityId { execution: execution.clone(), call };
        for call in turn.outcomes.iter().map(|(call, _)| call).chain(&turn.cancelled_activities) {
            self.remove_activity(&activity(*call), by);
        }
        self.remove_messages(this, |row| {
            let is_cancelled = row.call.is_some_and(|call| turn.cancelled_messages.contains(&call));
            is_cancelled && row.visible_at.is_some() && row.execution == Some(execution.number)
        });
        for new in turn.activities {
            let owner = by.filter(|_| new.eager);
            let (ready, tenancy) = (Ready::AtOnce(turn.time), Tenancy { owner, ..Tenancy::default() });
            self.activities.insert(activity(new.call), Activity { new, attempt: 1, ready, tenancy });
        }
        self.events.entry(execution.clone()).or_default().extend(turn.events);
        if let Some(instance) = self.instances.get_mut(this) {
            instance.last_commit = Some(id);
            instance.updated_at = turn.time;
            instance.version = turn.version.or(instance.version.take());
        }
        self.then(execution, by, turn.then, turn.time);
        let starts = turn.starts.into_iter().map(|child| self.start_child(this, child, by, turn.time)).collect();
        let messages = turn.messages.into_iter().map(|out| self.send_out(out, by, turn.time)).collect();
        Committed { repeated: false, starts, messages }
    }

    fn then(&mut self, execution: &ExecutionId, by: Option<Epoch>, then: Then, time: duroxide::Timestamp) {
        let build = by.and_then(|epoch| self.nodes.get(&epoch)).map(|node| node.info.build.clone());
        let Some(instance) = self.instances.get_mut(&execution.instance) else { return };
        instance.tenancy.made_progress();
        match then {
            Then::Continue => instance.tenancy.forget_rejections(),
            Then::Suspend { reason } => {
                instance.tenancy.reject(reason, build);
                self.settle_rejected();
            }
            Then::Finish { status } => {
                instance.tenancy.forget_rejections();
                instance.tenancy.owner = None;
                instance.finished = Some((status, time));
                self.sweep(execution, by);
                self.remove_messages(&execution.instance, |_| true);
            }
            Then::ContinueAsNew { version } => {
                instance.tenancy.forget_rejections();
                instance.version = version;
                instance.execution = execution.next();
                self.sweep(execution, by);
                self.remove_messages(&execution.instance, |row| row.execution == Some(execution.number));
            }
        }
    }

    fn start_child(
        &mut self,
        from: &InstanceId,
        child: NewChild,
        by: Option<Epoch>,
        time: duroxide::Timestamp,
    ) -> ChildPlacement {
        if self.instances.contains_key(&child.new.instance) {
            let answer = self.deliver(from, child.if_taken, time, false);
            return ChildPlacement { start: Placement::Refused, answer: Some(answer) };
        }
        let start = self.create(child.new, by, time);
        let answer = child.accepted.map(|accepted| self.deliver(from, accepted, time, false));
        ChildPlacement { start, answer }
    }

    fn send_out(&mut self, out: Outgoing, by: Option<Epoch>, time: duroxide::Timestamp) -> Placement {
        let found = self.instances.get(&out.to).map(Instance::identity);
        if out.identity.zip(found).is_some_and(|(wanted, found)| !found.matches(wanted)) {
            return Placement::Refused;
        }
        let placement = self.deliver(&out.to, out.message, time, false);
        self.leave_mail(&out.to, placement, by);
        placement
    }
}

fn release(tenancy: &mut Tenancy, lease: &Lease, claim: u64) -> Answer {
    if !tenancy.is_owned_by(lease.epoch) {
        return Err(CommitError::Fenced);
    }
    if tenancy.claim != claim {
        return Err(CommitError::Conflict);
    }
    (tenancy.owner, tenancy.alone) = (None, false);
    Ok(Committed::default())
}
