//! What is committed, and what follows once it is durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use semver::Version;
use tokio::sync::oneshot;

use super::{Answer, Node};
use crate::clock::Timestamp;
use crate::id::{ActivityId, CallId, CommitId, ExecutionId, InstanceId};
use crate::message::Message;
use crate::provider::{
    Commit, CommitError, Committed, Lease, MessageRow, Outgoing, Placement, Provider, Tenure, Then, Turn, Write,
};
use crate::replay::Execution;
use crate::runtime::Backoff;
use crate::runtime::slot::{Delivery, LocalOutcome, Slot};

/// A commit on its way.
pub(super) struct Outbound {
    commit: Arc<Commit>,
    context: Context,
    /// Whether it is without an answer, and not made again.
    given_up: bool,
}

impl Outbound {
    fn new(write: Write, context: Context) -> Self {
        Self { commit: Arc::new(Commit { id: CommitId::new(), write }), context, given_up: false }
    }

    /// Leaves a first turn that was to create its instance to the client. Whether it is one.
    fn leave_to_client(&mut self) -> bool {
        let Context::Turn(turn) = &mut self.context else { return false };
        turn.stored.take().is_some()
    }

    /// The same, where there was no answer.
    fn give_up(&mut self) -> bool {
        self.given_up = self.leave_to_client();
        self.given_up
    }
}

/// What became of commits that went out together.
pub(super) struct Answered {
    /// Those that have an answer.
    done: Vec<(Outbound, Result<Committed, CommitError>)>,
    /// Those that failed and are tried again by themselves: their neighbours do not wait for them.
    open: Vec<Outbound>,
    backoff: Backoff,
}

/// What is needed once a commit is answered.
pub(super) enum Context {
    Turn(Box<TurnContext>),
    Other,
}

pub(super) struct TurnContext {
    pub(super) generation: u64,
    /// Told when the instance that the turn creates is stored.
    pub(super) stored: Option<oneshot::Sender<()>>,
    /// The live copy, unless the turn suspends.
    pub(super) execution: Option<Box<Execution>>,
    pub(super) version: Option<Version>,
    /// Outcomes that the turn has read, and that are stored nowhere else.
    pub(super) taken: Vec<Delivery>,
    /// What the turn has not read.
    pub(super) left: Vec<Delivery>,
    /// Calls that were open when the execution ended.
    pub(super) ended: Vec<CallId>,
}

impl Node {
    /// Puts a write among those that go out together at the end of the round.
    pub(super) fn commit(&mut self, write: Write, context: Context) {
        self.outgoing.push(Outbound::new(write, context));
    }

    /// Stores an outcome as a message, because its instance is not live here.
    pub(super) fn store_outcome(&mut self, outcome: LocalOutcome) {
        let LocalOutcome { activity, attempt, claim, input, payload, .. } = outcome;
        let message = Message::new(input, payload).for_execution(activity.execution.number);
        let tenure = Tenure { activity, attempt, claim };
        self.commit(Write::Outcome { tenure, message: MessageRow::from(&message) }, Context::Other);
    }

    pub(super) fn send_commits(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let outbound = std::mem::take(&mut self.outgoing);
        let (provider, lease) = (self.shared.provider.clone(), self.lease);
        self.ask(async move {
            Answer::Committed(lease, until_answered(&*provider, &lease, outbound, Backoff::default()).await)
        });
    }

    pub(super) fn committed(&mut self, lease: Lease, Answered { done, open, mut backoff }: Answered) {
        if !open.is_empty() {
            let provider = self.shared.provider.clone();
            self.ask(async move {
                tokio::time::sleep(backoff.next()).await;
                Answer::Committed(lease, until_answered(&*provider, &lease, open, backoff).await)
            });
        }
        let held = lease == self.lease && !self.rejoining;
        for (Outbound { commit, context, given_up }, result) in done {
            self.acquiring.end_quarantine(commit.write.instance());
            if given_up && held {
                affected(&commit.write).into_iter().for_each(|instance| self.look_for_a_while(instance));
            }
            match (Arc::unwrap_or_clone(commit).write, context) {
                (Write::Turn(turn), Context::Turn(context)) => match result {
                    Ok(committed) => self.turn_committed(*turn, *context, &committed, held),
                    Err(error) => self.turn_refused(&turn, *context, &error, held),
                },
                (write, _) => self.write_answered(write, result),
            }
        }
    }

    fn turn_committed(&mut self, turn: Turn, context: TurnContext, committed: &Committed, held: bool) {
        self.is_written(&turn);
        self.stop_cancelled(&turn, &context);
        let TurnContext { generation, stored, execution, version, left, .. } = context;
        if let Some(stored) = stored {
            // The client may have stopped waiting.
            let _ = stored.send(());
        }
        let own = turn.execution.instance.clone();
        let current = self.slots.get_mut(&own).filter(|slot| slot.generation == generation);
        if let Some(slot) = current {
            slot.version = version;
            slot.committed = turn.events.last().map_or(turn.after, |event| event.id);
            let is_stale = slot.is_stale;
            slot.put_back(left);
            turn.cancelled_messages.iter().for_each(|call| slot.remove_timers(*call));
            match (&turn.then, execution) {
                (Then::Continue, Some(execution)) if !is_stale => self.rest(&own, execution),
                (Then::ContinueAsNew { version }, _) if !is_stale => {
                    self.begin_next_execution(&turn.execution, version.clone());
                }
                _ => self.drop_slot(&own),
            }
            if is_stale {
                self.acquiring.load(own);
            }
        }
        if held {
            self.start_eager(&turn);
        } else {
            // Whoever took over what this node owned runs them.
            self.free_eager(&turn);
        }
        self.settle_later(&turn.execution.instance);
        self.forward(turn, committed);
    }

    /// Activities of this node that nobody waits for any more are told; outcomes that wait are discarded.
    fn stop_cancelled(&mut self, turn: &Turn, context: &TurnContext) {
        for call in turn.cancelled_activities.iter().chain(&context.ended) {
            let id = ActivityId { execution: turn.execution.clone(), call: *call };
            self.cancel_attempt(&id);
            if let Some(slot) = self.slots.get_mut(&turn.execution.instance) {
                slot.discard_outcome(&id);
            }
        }
    }

    /// The instance goes on as the next execution; what waits for it goes along.
    fn begin_next_execution(&mut self, execution: &ExecutionId, version: Option<Version>) {
        let Some(mut old) = self.slots.remove(&execution.instance) else { return };
        let generation = self.next_generation();
        let mut slot = Slot::new(generation, execution.next(), old.name.clone(), version);
        slot.continues(&mut old);
        let now = self.now();
        for delivery in old.drain_inbox() {
            match delivery {
                Delivery::Outcome(outcome) => self.store_outcome(outcome),
                message @ Delivery::Message(_) => slot.deliver(message, now),
            }
        }
        self.insert(slot);
        self.set_instance_timer(&execution.instance);
    }

    /// Delivers the messages of a turn to instances of this node, without a request to the provider.
    fn forward(&mut self, turn: Turn, committed: &Committed) {
        if committed.repeated {
            // The placements are unknown: the provider shows which of the instances this node owns, and their messages.
            targets(&turn).for_each(|instance| self.acquiring.load(instance.clone()));
            return self.keep_timers(&turn.execution.instance, turn.messages.iter());
        }
        let own = turn.execution.instance;
        self.keep_timers(&own, turn.messages.iter());
        for (out, placement) in turn.messages.into_iter().zip(&committed.messages) {
            self.placed(out.to, out.message, *placement);
        }
        for (child, placement) in turn.starts.into_iter().zip(&committed.starts) {
            let accepted = match placement.start {
                Placement::Owned { epoch, number, .. } if epoch == self.lease.epoch => {
                    self.create(child.new, number);
                    child.accepted
                }
                Placement::Owned { .. } | Placement::Queued => child.accepted,
                Placement::Refused => Some(child.if_taken),
            };
            if let (Some(message), Some(placement)) = (accepted, placement.answer) {
                self.placed(own.clone(), message, placement);
            }
        }
    }

    /// Keeps the timers that a turn has made, for its own instance.
    fn keep_timers<'t>(&mut self, own: &InstanceId, messages: impl Iterator<Item = &'t Outgoing>) {
        let timers = messages.filter_map(|out| Some((out, out.message.visible_at?)));
        let mut earliest: Option<Timestamp> = None;
        for (out, due) in timers.filter(|(out, _)| out.to == *own) {
            earliest = Some(earliest.map_or(due, |before| before.min(due)));
            let current = self.slots.get_mut(own).filter(|slot| out.message.execution == Some(slot.execution.number));
            if let Some(slot) = current {
                slot.add_timer(due, out.message.clone());
            }
        }
        match earliest {
            Some(due) if !self.slots.contains_key(own) => self.timers.add(own, due),
            _ => self.set_instance_timer(own),
        }
    }

    /// Delivers a message that is stored for an instance of this node.
    fn placed(&mut self, to: InstanceId, message: MessageRow, placement: Placement) {
        if let Placement::Owned { epoch, identity, number: Some(number) } = placement
            && epoch == self.lease.epoch
        {
            self.deliver_message(to, identity, number, message);
        }
    }

    /// The turn is not what is stored: the live copy is of no use, and the instance is loaded again if it is still ours.
    fn turn_refused(&mut self, turn: &Turn, context: TurnContext, error: &CommitError, held: bool) {
        let instance = &turn.execution.instance;
        tracing::debug!(%instance, %error, "a turn was refused");
        self.free_eager(turn);
        if held && !matches!(error, CommitError::Failed(_)) {
            self.doubt(turn);
        }
        self.store_left(context.taken.into_iter().chain(context.left));
        if self.slots.get(instance).is_some_and(|slot| slot.generation == context.generation) {
            self.drop_slot(instance);
        }
        if matches!(error, CommitError::Fenced) {
            self.heartbeat.beat_now();
        }
        // It may have been written before, by a commit whose answer was lost. Then the node owns instances that it created, and
        // has not forwarded its messages. Also if it was fenced: the instance may have ended, and a later one with its id belong
        // to this node.
        targets(turn).for_each(|instance| self.acquiring.load(instance.clone()));
    }

    fn write_answered(&mut self, write: Write, result: Result<Committed, CommitError>) {
        match (write, result) {
            (Write::Outcome { tenure, message }, Ok(committed)) => {
                if let Some(placement) = committed.messages.first() {
                    self.placed(tenure.activity.execution.instance, message, *placement);
                }
            }
            (Write::Retry { visible_at, .. }, Ok(_)) => self.acquiring.due_at(visible_at),
            (_, Ok(_)) => {}
            (write, Err(error)) => {
                tracing::debug!(%error, "a write was refused");
                if let Write::Outcome { tenure, .. } = write {
                    // It may have been written before, by a commit whose answer was lost.
                    self.acquiring.load(tenure.activity.execution.instance);
                }
            }
        }
    }

    /// The places of activities that this node would have run at once are free again.
    fn free_eager(&mut self, turn: &Turn) {
        self.free(turn.activities.iter().filter(|activity| activity.eager).map(|activity| activity.name.as_str()));
    }

    /// The events of a turn that schedule activities which this node runs at once.
    fn start_eager(&mut self, turn: &Turn) {
        for activity in turn.activities.iter().filter(|activity| activity.eager) {
            let index = activity.scheduled.0 - turn.after.0 - 1;
            let event = usize::try_from(index).ok().and_then(|index| turn.events.get(index));
            let Some(event) = event else { continue };
            let id = ActivityId { execution: turn.execution.clone(), call: activity.call };
            self.start_attempt(Tenure { activity: id, attempt: 1, claim: 0 }, event.clone(), activity.headers.clone());
        }
    }
}

/// Returns the instances that a turn writes to: its own, those that it sends messages to, and those that it starts.
fn targets(turn: &Turn) -> impl Iterator<Item = &InstanceId> {
    let others = turn.messages.iter().map(|out| &out.to).chain(turn.starts.iter().map(|child| &child.new.instance));
    others.chain([&turn.execution.instance])
}

fn affected(write: &Write) -> BTreeSet<InstanceId> {
    match write {
        Write::Turn(turn) => targets(turn).cloned().collect(),
        other => BTreeSet::from([other.instance().clone()]),
    }
}

/// Commits until there is an answer: storage that fails only delays.
async fn until_answered(
    provider: &dyn Provider,
    lease: &Lease,
    mut outbound: Vec<Outbound>,
    mut backoff: Backoff,
) -> Answered {
    let mut done = Vec::with_capacity(outbound.len());
    let answers = loop {
        let commits = outbound.iter().map(|outbound| outbound.commit.clone()).collect();
        match provider.commit(lease, commits).await {
            Ok(answers) => break answers,
            Err(error) => tracing::warn!(%error, attempts = backoff.attempts(), "committing failed; it is tried again"),
        }
        let left = outbound.extract_if(.., Outbound::give_up);
        done.extend(left.map(|outbound| (outbound, Err(CommitError::Conflict))));
        if outbound.is_empty() {
            break Vec::new();
        }
        tokio::time::sleep(backoff.next()).await;
    };
    let mut open = Vec::new();
    let mut answers = answers.into_iter();
    for mut outbound in outbound {
        match answers.next().unwrap_or(Err(CommitError::Conflict)) {
            Err(CommitError::Failed(error)) if !outbound.leave_to_client() => {
                tracing::warn!(error, attempts = backoff.attempts(), "a commit failed; it is tried again");
                open.push(outbound);
            }
            answer => done.push((outbound, answer)),
        }
    }
    Answered { done, open, backoff }
}
