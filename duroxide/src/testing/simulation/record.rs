//! The record of a run: the effects of all answers of the storage, kept apart from the storage to be compared with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::Answered;
use super::world::Process;
use crate::activity::Ended;
use crate::clock::Timestamp;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::{ActivityId, Epoch, EventId, ExecutionId, Identity, InstanceId, MessageId, NodeId};
use crate::payload::Payload;
use crate::provider::*;

/// The record of a run; see the module. An answer that contradicts it adds a finding at once.
#[derive(Default)]
pub(super) struct Record {
    pub(super) violations: Vec<String>,
    /// The facts whose commits were answered.
    pub(super) answered: Answered,
    /// The latest time that the clock of any node may show: the true time plus the largest skew.
    pub(super) latest: Timestamp,
    pub(super) instances: BTreeMap<InstanceId, Seen>,
    /// The instances that were deleted or pruned at some time.
    pub(super) removed: BTreeSet<InstanceId>,
    /// The executions that were pruned.
    pub(super) pruned: BTreeSet<ExecutionId>,
    /// The number of turns of all instances; and the turns of each execution, each with its last event and its number.
    turns: u64,
    turns_of: HashMap<ExecutionId, Vec<(EventId, u64)>>,
    /// The executions that were abandoned by a reset, each with the number of turns until then.
    pub(super) abandoned: BTreeMap<ExecutionId, u64>,
    /// The last events that executions have taken over from another one.
    pub(super) grafted: BTreeMap<ExecutionId, EventId>,
    /// The committed events of every execution.
    pub(super) histories: BTreeMap<ExecutionId, Vec<EventRow>>,
    /// The attempts of each activity that have ended.
    pub(super) attempts: HashMap<ActivityId, Vec<Attempted>>,
    /// The ids of the commits and submissions that were carried out.
    done: HashSet<Uuid>,
    /// The messages that were read.
    read: HashSet<MessageId>,
    /// The number of submissions and answers of clients so far; and that number at the first submission of each
    /// message.
    calls: u64,
    begun: HashMap<MessageId, u64>,
    /// The epochs that have ended.
    ended_epochs: BTreeSet<Epoch>,
    epochs: BTreeMap<NodeId, Epoch>,
}

/// The recorded state of an instance.
pub(super) struct Seen {
    /// The message that started it. A later instance with the same id has another.
    start: MessageId,
    /// The message that started its parent.
    start_of_parent: Option<MessageId>,
    pub(super) owner: Option<Epoch>,
    pub(super) status: InstanceStatus,
    queued: HashMap<MessageId, MessageRow>,
    /// The unread messages of clients, in the order of arrival.
    sent: Vec<Sent>,
    execution: u64,
    /// True if it was forked: then its first execution has carried events, too.
    is_copy: bool,
    /// The turn that ended it, counted through all turns of all instances.
    pub(super) ended: Option<u64>,
    /// True if it ended with an unread request to cancel or terminate it.
    pub(super) unread_close: bool,
    /// True if such a request is in an execution that was pruned.
    pub(super) pruned_close: bool,
}

/// A message of a client.
struct Sent {
    id: MessageId,
    from: Process,
    /// The number of its first submission and of its answer, counted through all calls of clients.
    begun: u64,
    answered: Option<u64>,
}

/// An attempt of an activity that has ended.
pub(super) struct Attempted {
    pub(super) attempt: u32,
    /// The value that it returned. `None`: the value cannot be stored.
    pub(super) ended: Option<Result<Payload, Payload>>,
}

impl Record {
    fn violated(&mut self, finding: String) {
        self.violations.push(finding);
    }

    pub(super) fn joined(&mut self, node: NodeId, lease: Lease) {
        if let Some(before) = self.epochs.insert(node, lease.epoch) {
            self.epoch_ended(before);
        }
    }

    /// Records the end of a membership: the node has left, or its lease has expired.
    pub(super) fn epoch_ended(&mut self, epoch: Epoch) {
        self.ended_epochs.insert(epoch);
        for seen in self.instances.values_mut().filter(|seen| seen.owner == Some(epoch)) {
            seen.owner = None;
        }
    }

    pub(super) fn acquired(&mut self, lease: &Lease, acquired: &Acquired) {
        let nothing = acquired.instances.is_empty() && acquired.activities.is_empty();
        if self.ended_epochs.contains(&lease.epoch) && !nothing {
            self.violated(format!("epoch {} has ended, and was given work", lease.epoch));
        }
        for instance in &acquired.instances {
            let id = &instance.execution.instance;
            let Some(seen) = self.instances.get_mut(id) else { continue };
            // The join of another build may have resumed it.
            seen.status = InstanceStatus::Running;
            if let Some(owner) = seen.owner.replace(lease.epoch).filter(|owner| *owner != lease.epoch) {
                self.violated(format!("{id} belongs to epoch {owner}, and was given to epoch {}", lease.epoch));
            }
        }
    }

    /// Records that a client submits messages for the first time or repeats them.
    pub(super) fn client_submits(&mut self, entries: &[Submission]) {
        self.calls += 1;
        for entry in entries {
            if let Submission::Send(SendRequest { message, .. }) = entry.unaudited() {
                self.begun.entry(message.id).or_insert(self.calls);
            }
        }
    }

    /// Records that a client receives the answer that its messages are stored.
    pub(super) fn client_is_answered(&mut self, entries: &[Submission]) {
        self.calls += 1;
        for entry in entries {
            let Submission::Send(SendRequest { to, message, .. }) = entry.unaudited() else { continue };
            let sent = self.instances.get_mut(to).and_then(|seen| seen.sent.iter_mut().find(|s| s.id == message.id));
            sent.into_iter().for_each(|sent| sent.answered = sent.answered.or(Some(self.calls)));
        }
    }

    pub(super) fn submitted(
        &mut self,
        from: Process,
        entries: Vec<Submission>,
        answers: &[Result<Submitted, SubmitError>],
    ) {
        for (entry, answer) in entries.into_iter().zip(answers) {
            let Ok(submitted) = answer else { continue };
            match entry.unaudited().clone() {
                Submission::Start(StartRequest { new, .. })
                    if submitted.written && self.done.insert(new.start.id.0) =>
                {
                    self.create_queued(new, submitted.owner);
                }
                Submission::Send(SendRequest { to, message, .. }) if self.done.insert(message.id.0) => {
                    let begun = self.begun.get(&message.id).copied().unwrap_or(0);
                    if let Some(seen) = self.instances.get_mut(&to) {
                        seen.sent.push(Sent { id: message.id, from, begun, answered: None });
                    }
                    self.queue(&to, &message);
                }
                Submission::Drop { instance, message } if submitted.written => self.message_removed(&instance, message),
                Submission::Suspend(request) if self.done.insert(request.id.0) => self.paused(&request.instance),
                Submission::Resume { instance, .. } if submitted.written => self.resumed(&instance),
                Submission::Terminate { id, turn } if self.done.insert(id.0) => self.turn(None, *turn, None),
                Submission::Graft(graft) if self.done.insert(graft.id.0) => self.graft(*graft),
                _ => {}
            }
        }
    }

    fn message_removed(&mut self, instance: &InstanceId, message: MessageId) {
        if let Some(seen) = self.instances.get_mut(instance) {
            seen.queued.remove(&message);
            seen.sent.retain(|sent| sent.id != message);
        }
    }

    fn paused(&mut self, instance: &InstanceId) {
        if let Some(seen) = self.instances.get_mut(instance) {
            (seen.status, seen.owner) = (InstanceStatus::Suspended, None);
        }
    }

    pub(super) fn resumed(&mut self, instance: &InstanceId) {
        if let Some(seen) = self.instances.get_mut(instance).filter(|seen| !seen.status.is_finished()) {
            seen.status = InstanceStatus::Running;
        }
    }

    pub(super) fn committed(
        &mut self,
        lease: &Lease,
        entries: Vec<Arc<Commit>>,
        answers: &[Result<Committed, CommitError>],
    ) {
        for (entry, answer) in entries.into_iter().zip(answers) {
            let Commit { id, write } = Arc::unwrap_or_clone(entry);
            let Ok(committed) = answer else { continue };
            let new = self.done.insert(id.0);
            if committed.repeated {
                if new {
                    self.violated(format!("commit {id} was answered as repeated, and was never carried out"));
                }
                continue;
            }
            if !new {
                self.violated(format!("commit {id} was carried out twice: {write:?}"));
            }
            if self.ended_epochs.contains(&lease.epoch) {
                self.violated(format!("epoch {} has ended, and has written: {write:?}", lease.epoch));
            }
            match write {
                Write::Turn(turn) => self.turn(Some(lease), *turn, Some(committed)),
                Write::Outcome { tenure, message } => {
                    if committed.messages.first() != Some(&Placement::Refused) {
                        self.queue(&tenure.activity.execution.instance, &message);
                    }
                }
                Write::ReleaseInstance { execution, .. } => {
                    if let Some(seen) = self.instances.get_mut(&execution.instance) {
                        seen.owner = None;
                    }
                }
                Write::Retry { .. } | Write::Park { .. } | Write::ReleaseActivity { .. } => {}
            }
        }
    }

    /// Records a written turn, or a termination from outside.
    fn turn(&mut self, lease: Option<&Lease>, mut turn: Turn, committed: Option<&Committed>) {
        let own = turn.execution.instance.clone();
        if let Some(new) = turn.creates.take() {
            if !self.done.insert(new.start.id.0) {
                self.violated(format!("{own} was started twice by message {}", new.start.id));
            }
            if self.instances.contains_key(&own) {
                self.violated(format!("{own} was created, and existed already"));
            }
            self.create(*new, lease.map(|lease| lease.epoch));
        }
        let Some(seen) = self.instances.get_mut(&own) else {
            return self.violated(format!("{own} has made a turn, and was never started"));
        };
        let mut wrong = Vec::new();
        if lease.is_some_and(|lease| seen.owner != Some(lease.epoch)) {
            wrong.push(format!("was advanced by {lease:?}, and belongs to {:?}", seen.owner));
        }
        if seen.status.is_finished() || turn.execution.number != seen.execution {
            wrong.push(format!("is {} in execution {}, and was advanced: {turn:?}", seen.status, seen.execution));
        }
        let mut latest = self.latest;
        for id in &turn.consumed {
            let queued = seen.queued.remove(id);
            // A timer is never recorded earlier than it was due, and may fire earlier if the clock was set ahead.
            latest = latest.max(queued.as_ref().and_then(|message| message.visible_at).unwrap_or(latest));
            // A request to end is delivered before the messages that were sent earlier.
            let may_overtake = queued.as_ref().is_some_and(|message| Input::may_be_end_request(&message.data));
            if queued.is_none() {
                let how = if self.read.contains(id) { "a second time" } else { "that was not in its queue" };
                wrong.push(format!("has read message {id} {how}"));
            }
            self.read.insert(*id);
            if let Some(position) = seen.sent.iter().position(|sent| sent.id == *id) {
                let read = seen.sent.remove(position);
                let came_first =
                    |sent: &&Sent| sent.from == read.from || sent.answered.is_some_and(|at| at < read.begun);
                // After the first execution, an event is delivered when the code asks for it: only those of the same name
                // keep their order.
                let name = queued.as_ref().and_then(event_name);
                let is_held = |sent: &Sent| {
                    let held = seen.queued.get(&sent.id).and_then(event_name);
                    (seen.execution > 1 || seen.is_copy) && held.is_some_and(|held| name.as_ref() != Some(&held))
                };
                let earlier = seen.sent.iter().take(position).filter(|sent| !is_held(sent)).find(came_first);
                if let Some(earlier) = earlier.filter(|_| !may_overtake) {
                    wrong.push(format!(
                        "has read message {id} before {}, which the {} sent first",
                        earlier.id, earlier.from
                    ));
                }
            }
        }
        let history = self.histories.entry(turn.execution.clone()).or_default();
        if history.last().map_or(0, |event| event.id.0) != turn.after.0 {
            wrong.push(format!("continues after event {}, and has {} events", turn.after, history.len()));
        }
        // Times do not go back within an execution.
        latest = latest.max(history.last().map_or(latest, |event| event.time));
        if let Some(event) = turn.events.iter().find(|event| event.time > latest) {
            wrong.push(format!("has recorded {}, which no clock has shown yet: {}", event.time, event.data));
        }
        history.extend(turn.events);
        self.turns += 1;
        let last = history.last().map_or(turn.after, |event| event.id);
        self.turns_of.entry(turn.execution.clone()).or_default().push((last, self.turns));
        seen.queued.retain(|_, waiting| {
            let called = waiting.call.is_some_and(|call| turn.cancelled_messages.contains(&call));
            let own = waiting.execution.is_none_or(|number| number == turn.execution.number);
            !(called && own && waiting.visible_at.is_some())
        });
        match turn.then {
            Then::Continue => {}
            Then::Suspend { .. } => (seen.status, seen.owner) = (InstanceStatus::Suspended, None),
            Then::Finish { status } => {
                (seen.status, seen.owner, seen.ended) = (status, None, Some(self.turns));
                seen.unread_close = seen.queued.drain().any(|(_, waiting)| is_close(&waiting));
                seen.sent.clear();
            }
            Then::ContinueAsNew { .. } => {
                seen.queued.retain(|_, waiting| waiting.execution != Some(turn.execution.number));
                seen.execution += 1;
            }
        }
        self.violations.extend(wrong.into_iter().map(|wrong| format!("{}: it {wrong}", turn.execution)));
        self.send_out(&own, turn.messages, turn.starts, committed);
    }

    /// Records an execution that begins with a given history.
    fn graft(&mut self, graft: Graft) {
        let (own, execution, last) = (graft.instance().clone(), graft.execution(), graft.last_event());
        self.turns += 1;
        match graft.target {
            GraftTarget::New(copied) => {
                let created = copied.new.start.id.0;
                if !self.done.insert(created) || self.instances.contains_key(&own) {
                    self.violated(format!("{own} was copied, and existed already"));
                }
                self.create(copied.new, None);
                self.instances.get_mut(&own).into_iter().for_each(|seen| seen.is_copy = true);
            }
            GraftTarget::Next(next) => {
                let Some(seen) = self.instances.get_mut(&own) else {
                    return self.violated(format!("{own} was reset, and was never started"));
                };
                let expected = self.histories.get(&next.execution).map_or(0, |history| history.len() as u64);
                if seen.execution != next.execution.number || expected != next.last_event.0 {
                    let found = format!("{own} was reset after event {}, and has {expected}", next.last_event);
                    self.violations.push(found);
                }
                for id in &next.consumed {
                    seen.queued.remove(id);
                }
                seen.queued.retain(|_, waiting| waiting.execution != Some(next.execution.number));
                (seen.status, seen.owner, seen.ended) = (InstanceStatus::Running, None, None);
                (seen.execution, seen.unread_close) = (execution.number, false);
                self.abandoned.insert(next.execution, self.turns);
            }
        }
        self.histories.insert(execution.clone(), graft.history);
        self.turns_of.insert(execution.clone(), vec![(last, self.turns)]);
        self.grafted.insert(execution, last);
        for message in &graft.messages {
            self.queue(&own, &message.row);
        }
        // The answer does not say which starts and messages were refused.
        for child in graft.starts {
            if self.instances.contains_key(&child.new.instance) {
                self.queue(&own, &child.if_taken);
            } else {
                self.create_queued(child.new, None);
                child.accepted.iter().for_each(|accepted| self.queue(&own, accepted));
            }
        }
        for out in graft.outgoing {
            self.send(&out);
        }
    }

    /// Returns true if an instance was reset, so that it may have had other outcomes than the last one.
    pub(super) fn was_reset(&self, instance: &InstanceId) -> bool {
        self.abandoned.keys().any(|execution| execution.instance == *instance)
    }

    /// Records the messages and child starts that a turn sends.
    fn send_out(
        &mut self,
        from: &InstanceId,
        messages: Vec<Outgoing>,
        starts: Vec<NewChild>,
        committed: Option<&Committed>,
    ) {
        let started =
            |n: usize| committed.and_then(|committed| committed.starts.get(n)).map(|placement| placement.start);
        let placed = |n: usize| committed.and_then(|committed| committed.messages.get(n)).copied();
        for (n, child) in starts.into_iter().enumerate() {
            match started(n) {
                Some(Placement::Refused) => self.queue(from, &child.if_taken),
                placement => {
                    self.create_queued(child.new, placement.and_then(Placement::owner));
                    child.accepted.iter().for_each(|accepted| self.queue(from, accepted));
                }
            }
        }
        for (n, out) in messages.into_iter().enumerate() {
            if placed(n) != Some(Placement::Refused) {
                self.send(&out);
            }
        }
    }

    /// Records a message to an instance, unless the instance has another identity. The answer to a termination or to a graft
    /// does not say which messages were refused.
    fn send(&mut self, out: &Outgoing) {
        let is_addressed = |seen: &Seen| out.identity.is_none_or(|wanted| Identity::from(seen.start).matches(wanted));
        if self.instances.get(&out.to).is_some_and(is_addressed) {
            self.queue(&out.to, &out.message);
        }
    }

    fn create_queued(&mut self, new: NewInstance, owner: Option<Epoch>) {
        let (instance, start) = (new.instance.clone(), new.start.clone());
        self.create(new, owner);
        self.queue(&instance, &start);
    }

    fn create(&mut self, new: NewInstance, owner: Option<Epoch>) {
        let execution = new.first_execution();
        let status = InstanceStatus::Running;
        let parent = new.parent.as_ref().and_then(|parent| self.instances.get(&parent.execution.instance));
        let seen = Seen {
            start: new.start.id,
            start_of_parent: parent.map(|parent| parent.start),
            owner,
            status,
            queued: HashMap::new(),
            sent: Vec::new(),
            execution: 1,
            is_copy: false,
            ended: None,
            unread_close: false,
            pruned_close: false,
        };
        self.instances.insert(new.instance.clone(), seen);
        self.histories.retain(|id, _| id.instance != new.instance);
        self.turns_of.retain(|id, _| id.instance != new.instance);
        self.attempts.retain(|id, _| id.execution.instance != new.instance);
        self.histories.insert(execution, Vec::new());
    }

    fn queue(&mut self, to: &InstanceId, message: &MessageRow) {
        if let Some(seen) = self.instances.get_mut(to).filter(|seen| !seen.status.is_finished()) {
            let other = message.execution.is_some_and(|number| number != seen.execution);
            if !other {
                seen.queued.insert(message.id, message.clone());
            }
        }
    }

    pub(super) fn deleted(&mut self, instances: &[InstanceId], answers: &[Result<(), DeleteError>]) {
        for (id, answer) in instances.iter().zip(answers) {
            if answer.is_ok() {
                match self.instances.remove(id) {
                    Some(seen) if seen.status.is_finished() => {}
                    _ => self.violated(format!("{id} was deleted, and had not finished")),
                }
                self.removed.insert(id.clone());
                self.histories.retain(|execution, _| execution.instance != *id);
            }
        }
    }

    /// Records that all executions except these were pruned.
    pub(super) fn pruned(&mut self, left: &BTreeSet<ExecutionId>) {
        let gone: Vec<_> = self.histories.keys().filter(|id| !left.contains(id)).cloned().collect();
        for id in gone {
            let events = self.histories.remove(&id).unwrap_or_default();
            self.pruned.insert(id.clone());
            let Some(seen) = self.instances.get_mut(&id.instance) else { continue };
            if id.number < seen.execution {
                seen.pruned_close |= events.into_iter().flat_map(HistoryEvent::try_from).any(|e| requests_end(&e));
                continue;
            }
            if !seen.status.is_finished() {
                self.violated(format!("{id} was pruned, and had not finished"));
            }
            self.removed.insert(id.instance.clone());
            self.instances.remove(&id.instance);
        }
    }

    /// Returns true if `child` was started by this `parent`, not by an earlier instance with the id of the parent.
    pub(super) fn is_child(&self, child: &InstanceId, parent: &InstanceId) -> bool {
        let start_of_parent = self.instances.get(child).and_then(|child| child.start_of_parent);
        start_of_parent.is_some() && start_of_parent == self.instances.get(parent).map(|parent| parent.start)
    }

    /// Returns the start message of the current instance of an activity, which distinguishes instances with one id.
    pub(super) fn start_of(&self, id: &ActivityId) -> Option<MessageId> {
        self.instances.get(&id.execution.instance).map(|seen| seen.start)
    }

    /// Checks that the event that schedules an activity was committed before its attempt begins.
    pub(super) fn activity_begins(&mut self, id: &ActivityId, attempt: u32) {
        let ActivityId { execution, call } = id;
        let schedules = |event: &EventRow| {
            let decision = serde_json::from_str::<Decision>(&event.data);
            event.decision && matches!(decision, Ok(Decision::ActivityScheduled(scheduled)) if scheduled.call == *call)
        };
        let current = self.instances.get(&execution.instance).map(|seen| Identity::from(seen.start));
        let replaced = current.is_some_and(|current| current != execution.identity);
        let removed = replaced || self.removed.contains(&execution.instance) || self.pruned.contains(execution);
        let scheduled = self.histories.get(execution).is_some_and(|history| history.iter().any(schedules));
        if !scheduled && !removed {
            self.violated(format!("{id}: attempt {attempt} begins, and no event in its history schedules it"));
        }
    }

    /// Records the end of an attempt, unless another instance has taken the id since `start` was read.
    pub(super) fn activity_ended(&mut self, start: Option<MessageId>, id: &ActivityId, attempt: u32, ended: &Ended) {
        if start != self.start_of(id) {
            return;
        }
        let ended = match ended {
            Ended::Completed(output) => Some(Ok(output.clone())),
            Ended::Failed { error, .. } => Some(Err(error.clone())),
            _ => None,
        };
        self.attempts.entry(id.clone()).or_default().push(Attempted { attempt, ended });
    }

    /// Returns the number of the turn that wrote an event, counted through all turns of all instances.
    pub(super) fn turn_of(&self, execution: &ExecutionId, event: EventId) -> Option<u64> {
        let turns = self.turns_of.get(execution)?;
        turns.iter().find(|(last, _)| event <= *last).map(|(_, turn)| *turn)
    }

    /// Returns the running instances with an unread message that is due, except events of later executions, which need not
    /// be read.
    pub(super) fn unread(&self, now: Timestamp) -> impl Iterator<Item = &InstanceId> {
        let waits = move |seen: &Seen| {
            let is_due = |waiting: &MessageRow| waiting.visible_at.is_none_or(|due| due < now);
            let holds = seen.execution > 1 || seen.is_copy;
            let may_stay = |waiting: &MessageRow| holds && Input::is_event(&waiting.data);
            seen.status == InstanceStatus::Running
                && seen.queued.values().any(|waiting| is_due(waiting) && !may_stay(waiting))
        };
        self.instances.iter().filter(move |(_, seen)| waits(seen)).map(|(id, _)| id)
    }
}

/// Returns the name of an external event.
fn event_name(message: &MessageRow) -> Option<String> {
    match serde_json::from_str::<Input>(&message.data) {
        Ok(Input::EventRaised { name, .. }) => Some(name),
        _ => None,
    }
}

/// Returns true if a message requests the cancellation or termination of its instance.
fn is_close(message: &MessageRow) -> bool {
    let input = serde_json::from_str::<Input>(&message.data);
    matches!(input, Ok(Input::CancelRequested { .. } | Input::TerminateRequested { .. }))
}

/// Returns true if an event requests the cancellation or termination of its instance.
pub(super) fn requests_end(event: &HistoryEvent) -> bool {
    match &event.kind {
        EventKind::Input(Input::Started(started)) => started.request.is_some(),
        EventKind::Input(input) => matches!(input, Input::CancelRequested { .. } | Input::TerminateRequested { .. }),
        EventKind::Decision(_) => false,
    }
}
