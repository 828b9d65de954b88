//! The rows that an entry concerns.

use duroxide::Timestamp;
use duroxide::id::{ActivityId, CallId, Epoch, ExecutionId, Identity, InstanceId};
use duroxide::provider::{
    Commit, Graft, GraftTarget, IfExists, Lease, MessageRow, NewInstance, SendRequest, StartRequest, Submission,
    SuspendRequest, Tenure, Then, Turn, WakeRequest, Write,
};
use uuid::Uuid;

use super::Request;

/// An instance id that the entry may create.
pub(super) struct Creation<'a> {
    pub(super) id: &'a InstanceId,
    /// `None`: the id is only kept from being created by others, for the record of a refused request.
    pub(super) new: Option<&'a NewInstance>,
    pub(super) time: Timestamp,
}

impl Creation<'_> {
    pub(super) fn identity(&self) -> Identity {
        self.new.map_or(Identity::UNKNOWN, |new| new.start.id.into())
    }
}

/// The rows that an entry, or a batch of entries, concerns.
#[derive(Default)]
pub(super) struct Scope<'a> {
    /// Live instances that are locked.
    pub(super) locks: Vec<InstanceId>,
    /// Instances that are read without a lock.
    pub(super) reads: Vec<InstanceId>,
    pub(super) creations: Vec<Creation<'a>>,
    /// Instances that must not be removed until the batch is committed.
    pub(super) kept: Vec<InstanceId>,
    pub(super) messages: Vec<(InstanceId, Uuid)>,
    pub(super) activities: Vec<ActivityId>,
    /// Executions that may end: all their activities are read.
    pub(super) ending: Vec<ExecutionId>,
    /// Instances whose parked activities are read.
    pub(super) resumed: Vec<InstanceId>,
    /// Instances whose activities without an owner, and whose delayed starts, are read.
    pub(super) woken: Vec<InstanceId>,
    /// Instances whose rejections are read.
    pub(super) rejected: Vec<InstanceId>,
    pub(super) dedup: Vec<Uuid>,
    /// Epochs under which something may be created with an owner.
    pub(super) epochs: Vec<Epoch>,
    pub(super) needs_members: bool,
    /// True if a finished instance may have to be removed, revived or erased first.
    pub(super) replaces: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn of(request: &'a Request) -> Self {
        let mut scope = Self::default();
        match request {
            Request::Commit { lease, commit } => scope.commit(lease, commit),
            Request::Submit(submission) => scope.submission(submission),
        }
        scope
    }

    /// Adds the rows of another entry.
    pub(super) fn add(&mut self, other: Self) {
        let Scope { locks, reads, creations, kept, messages, activities, ending, resumed, .. } = other;
        self.locks.extend(locks);
        self.reads.extend(reads);
        self.creations.extend(creations);
        self.kept.extend(kept);
        self.messages.extend(messages);
        self.activities.extend(activities);
        self.ending.extend(ending);
        self.resumed.extend(resumed);
        self.woken.extend(other.woken);
        self.rejected.extend(other.rejected);
        self.dedup.extend(other.dedup);
        self.epochs.extend(other.epochs);
        self.needs_members |= other.needs_members;
        self.replaces |= other.replaces;
    }

    fn commit(&mut self, lease: &Lease, commit: &'a Commit) {
        match &commit.write {
            Write::Turn(turn) => self.turn(Some(lease), turn),
            Write::Outcome { tenure, message } => {
                self.activities.push(tenure.activity.clone());
                self.send(&tenure.activity.execution.instance, message);
            }
            Write::Retry { tenure, .. } | Write::ReleaseActivity { tenure } => {
                self.activities.push(tenure.activity.clone());
            }
            Write::Park { tenure, .. } => self.park(tenure),
            Write::ReleaseInstance { execution, .. } => self.locks.push(execution.instance.clone()),
        }
    }

    fn park(&mut self, Tenure { activity, .. }: &Tenure) {
        let instance = &activity.execution.instance;
        self.activities.push(activity.clone());
        self.locks.push(instance.clone());
        self.rejected.push(instance.clone());
        self.needs_members = true;
    }

    fn turn(&mut self, lease: Option<&Lease>, turn: &'a Turn) {
        let this = &turn.execution.instance;
        match &turn.creates {
            Some(new) => {
                self.reads.push(this.clone());
                self.reads.push(new.instance.clone());
                self.dedup.push(new.start.id.0);
                self.create(new, lease, true, turn.time);
            }
            None => self.locks.push(this.clone()),
        }
        self.messages.extend(turn.consumed.iter().map(|id| (this.clone(), id.0)));
        let calls = turn.outcomes.iter().map(|(call, _)| call).chain(&turn.cancelled_activities);
        let execution = || turn.execution.clone();
        self.activities.extend(calls.map(|call| ActivityId { execution: execution(), call: *call }));
        match turn.then {
            Then::Continue => {}
            Then::Suspend { .. } => {
                self.needs_members = true;
                self.rejected.push(this.clone());
            }
            Then::Finish { .. } | Then::ContinueAsNew { .. } => self.ending.push(execution()),
        }
        for child in &turn.starts {
            self.create(&child.new, lease, child.new.eager, turn.time);
            let answers = child.accepted.iter().chain([&child.if_taken]);
            self.messages.extend(answers.map(|message| (this.clone(), message.id.0)));
        }
        for out in &turn.messages {
            if turn.creates.is_some() && out.to == *this {
                continue;
            }
            self.send(&out.to, &out.message);
        }
    }

    fn create(&mut self, new: &'a NewInstance, lease: Option<&Lease>, eager: bool, time: Timestamp) {
        self.creations.push(Creation { id: &new.instance, new: Some(new), time });
        if let Some(lease) = lease.filter(|_| eager) {
            self.epochs.push(lease.epoch);
            self.needs_members = true;
        }
    }

    fn send(&mut self, to: &InstanceId, message: &MessageRow) {
        self.locks.push(to.clone());
        self.messages.push((to.clone(), message.id.0));
    }

    fn submission(&mut self, submission: &'a Submission) {
        match submission.unaudited() {
            Submission::Start(StartRequest { new, lease, time, resent, if_exists }) => {
                self.reads.push(new.instance.clone());
                self.dedup.push(new.start.id.0);
                self.create(new, lease.as_ref(), new.eager, *time);
                self.replaces = *if_exists == IfExists::Replace;
                if *resent {
                    self.kept.push(new.instance.clone());
                }
            }
            Submission::Send(SendRequest { to, message, time, resent, .. }) => {
                self.send(to, message);
                self.dedup.push(message.id.0);
                if *resent {
                    self.creations.push(Creation { id: to, new: None, time: *time });
                    self.kept.push(to.clone());
                }
            }
            Submission::Suspend(SuspendRequest { id, instance, .. }) => {
                self.locks.push(instance.clone());
                self.dedup.push(id.0);
            }
            Submission::Wake(WakeRequest { id, instance, .. }) => {
                self.locks.push(instance.clone());
                self.woken.push(instance.clone());
                self.dedup.push(id.0);
            }
            Submission::Resume { instance, .. } => {
                self.locks.push(instance.clone());
                self.resumed.push(instance.clone());
            }
            Submission::Drop { instance, message } => {
                self.locks.push(instance.clone());
                self.messages.push((instance.clone(), message.0));
            }
            Submission::Terminate { id, turn } => {
                self.dedup.push(id.0);
                self.turn(None, turn);
            }
            Submission::Graft(graft) => self.graft(graft),
            Submission::Redact(request) => {
                self.reads.push(request.execution.instance.clone());
                self.replaces = true;
            }
            Submission::Audited { .. } => {}
        }
    }

    fn graft(&mut self, graft: &'a Graft) {
        self.dedup.push(graft.id.0);
        match &graft.target {
            GraftTarget::Next(next) => {
                let this = &next.execution.instance;
                self.locks.push(this.clone());
                self.messages.extend(next.consumed.iter().map(|id| (this.clone(), id.0)));
                let activity = |call: &CallId| ActivityId { execution: next.execution.clone(), call: *call };
                self.activities.extend(next.cancelled_activities.iter().map(activity));
                self.ending.push(next.execution.clone());
                // It may have finished.
                self.replaces = true;
            }
            GraftTarget::New(copied) => {
                self.reads.push(copied.new.instance.clone());
                self.create(&copied.new, None, false, copied.created_at);
            }
        }
        for child in &graft.starts {
            self.create(&child.new, None, false, graft.time);
        }
        for out in &graft.outgoing {
            self.send(&out.to, &out.message);
        }
    }
}
