//! Commits of this node, and the handling of their answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use semver::Version;
use tokio::sync::oneshot;

use super::{Answer, Node};
use crate::backoff::Backoff;
use crate::clock::Timestamp;
use crate::id::{ActivityId, CallId, CommitId, ExecutionId, InstanceId};
use crate::message::Message;
use crate::node::live::{Delivery, LiveInstance, LocalOutcome};
use crate::provider::{
    Commit, CommitError, Committed, Lease, MessageRow, Outgoing, Placement, Provider, Tenure, Then, Turn, Write,
};
use crate::replay::Execution;

/// A commit in flight.
pub(super) struct Outbound {
    commit: Arc<Commit>,
    context: Context,
    /// True if it has no answer and is not repeated: its effect is unknown.
    given_up: bool,
}

impl Outbound {
    fn new(write: Write, context: Context) -> Self {
        Self { commit: Arc::new(Commit { id: CommitId::new(), write }), context, given_up: false }
    }

    /// Drops the sender to the client of a first turn that creates its instance, so that the client stores the start.
    /// Returns true if this is such a turn.
    fn leave_to_client(&mut self) -> bool {
        let Context::Turn(turn) = &mut self.context else { return false };
        turn.stored.take().is_some()
    }

    /// Like [`leave_to_client`](Self::leave_to_client), for a commit without an answer.
    fn give_up(&mut self) -> bool {
        self.given_up = self.leave_to_client();
        self.given_up
    }
}

/// The results of commits that were sent together.
pub(super) struct Answered {
    /// The commits that are not repeated: answered, or given up.
    done: Vec<(Outbound, Result<Committed, CommitError>)>,
    /// The commits that failed alone. They are repeated on their own, so that the others need not wait for them.
    open: Vec<Outbound>,
    backoff: Backoff,
}

/// The data for the handling of an answer.
pub(super) enum Context {
    Turn(Box<TurnContext>),
    Other,
}

pub(super) struct TurnContext {
    pub(super) generation: u64,
    /// Sent once the instance that the turn creates is stored.
    pub(super) stored: Option<oneshot::Sender<()>>,
    /// The live copy, unless the turn suspends.
    pub(super) execution: Option<Box<Execution>>,
    pub(super) version: Option<Version>,
    /// Outcomes that the turn has read. They are not stored before the turn is.
    pub(super) delivered_outcomes: Vec<Delivery>,
    /// Deliveries that the turn has not read.
    pub(super) undelivered: Vec<Delivery>,
    /// Calls that were open when the execution ended.
    pub(super) ended: Vec<CallId>,
}

impl Node {
    /// Adds a write to the commits that are sent at the end of the round.
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

    /// Sends the commits of the round in one request.
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

    /// Handles the answers to commits.
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
            self.work.end_quarantine(commit.write.instance());
            if given_up && held {
                affected(&commit.write).into_iter().for_each(|instance| self.recheck(instance));
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
        self.lost.confirm(&turn);
        self.stop_cancelled(&turn, &context);
        let TurnContext { generation, stored, execution, version, undelivered, .. } = context;
        if let Some(stored) = stored {
            // The client may have stopped waiting.
            let _ = stored.send(());
        }
        let own = turn.execution.instance.clone();
        let current = self.instances.get_mut(&own).filter(|live| live.generation == generation);
        if let Some(live) = current {
            live.version = version;
            live.committed = turn.events.last().map_or(turn.after, |event| event.id);
            let is_stale = live.is_stale;
            live.put_back(undelivered);
            turn.cancelled_messages.iter().for_each(|call| live.remove_timers(*call));
            match (&turn.then, execution) {
                (Then::Continue, Some(execution)) if !is_stale => self.rest(&own, execution),
                (Then::ContinueAsNew { version }, _) if !is_stale => {
                    self.begin_next_execution(&turn.execution, version.clone());
                }
                _ => self.drop_live(&own),
            }
            if is_stale {
                self.work.load(own);
            }
        }
        if held {
            self.start_eager(&turn);
        } else {
            // The lease is lost: its next owner runs them.
            self.release_eager(&turn);
        }
        self.settle_later(&turn.execution.instance);
        self.forward(turn, committed);
    }

    /// Cancels the activities whose outcome is no longer wanted, and discards outcomes that wait in the inbox.
    fn stop_cancelled(&mut self, turn: &Turn, context: &TurnContext) {
        for call in turn.cancelled_activities.iter().chain(&context.ended) {
            let id = ActivityId { execution: turn.execution.clone(), call: *call };
            self.activities.cancel(&id);
            if let Some(live) = self.instances.get_mut(&turn.execution.instance) {
                live.discard_outcome(&id);
            }
        }
    }

    /// Replaces the live copy with one of the next execution, which inherits the messages in the inbox.
    fn begin_next_execution(&mut self, execution: &ExecutionId, version: Option<Version>) {
        let Some(mut old) = self.instances.remove(&execution.instance) else { return };
        let generation = self.next_generation();
        let mut live = LiveInstance::new(generation, execution.next(), old.name.clone(), version);
        live.continues(&mut old);
        let now = self.now();
        for delivery in old.drain_inbox() {
            match delivery {
                Delivery::Outcome(outcome) => self.store_outcome(outcome),
                message @ Delivery::Message(_) => live.deliver(message, now),
            }
        }
        self.insert(live);
        self.set_instance_timer(&execution.instance);
    }

    /// Delivers the messages of a turn to instances of this node, without a request to the provider.
    fn forward(&mut self, turn: Turn, committed: &Committed) {
        if committed.repeated {
            // The placements are unknown: the provider shows which of the instances this node owns, and their messages.
            targets(&turn).for_each(|instance| self.work.load(instance.clone()));
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

    /// Adds the timers that a turn has created to its instance.
    fn keep_timers<'t>(&mut self, own: &InstanceId, messages: impl Iterator<Item = &'t Outgoing>) {
        let timers = messages.filter_map(|out| Some((out, out.message.visible_at?)));
        let mut earliest: Option<Timestamp> = None;
        for (out, due) in timers.filter(|(out, _)| out.to == *own) {
            earliest = Some(earliest.map_or(due, |before| before.min(due)));
            let current =
                self.instances.get_mut(own).filter(|live| out.message.execution == Some(live.execution.number));
            if let Some(live) = current {
                live.add_timer(due, out.message.clone());
            }
        }
        match earliest {
            Some(due) if !self.instances.contains_key(own) => self.timers.add(own, due),
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

    /// Handles a refused turn: drops the live copy, which differs from the stored state, and loads the instances of the
    /// turn.
    fn turn_refused(&mut self, turn: &Turn, context: TurnContext, error: &CommitError, held: bool) {
        let instance = &turn.execution.instance;
        tracing::debug!(%instance, %error, "a turn was refused");
        self.release_eager(turn);
        if held && !matches!(error, CommitError::Failed(_)) {
            self.lost.mark_unconfirmed(turn);
        }
        self.store_outcomes(context.delivered_outcomes.into_iter().chain(context.undelivered));
        if self.instances.get(instance).is_some_and(|live| live.generation == context.generation) {
            self.drop_live(instance);
        }
        if matches!(error, CommitError::Fenced) {
            // Either the instance has another owner, or the lease is lost: the answer to a renewal decides.
            self.heartbeat.beat_now();
        }
        // An earlier sending of the turn may have been stored, with its answer lost. Then the node owns instances that
        // the turn created, and has not forwarded its messages. This holds for a fenced turn as well: the instance may
        // have ended, and a later one with its id belong to this node.
        targets(turn).for_each(|instance| self.work.load(instance.clone()));
    }

    fn write_answered(&mut self, write: Write, result: Result<Committed, CommitError>) {
        match (write, result) {
            (Write::Outcome { tenure, message }, Ok(committed)) => {
                if let Some(placement) = committed.messages.first() {
                    self.placed(tenure.activity.execution.instance, message, *placement);
                }
            }
            (Write::Retry { visible_at, .. }, Ok(_)) => self.work.request_at(visible_at),
            (_, Ok(_)) => {}
            (write, Err(error)) => {
                tracing::debug!(%error, "a write was refused");
                if let Write::Outcome { tenure, .. } = write {
                    // An earlier sending may have been stored, with its answer lost. Then its message was not
                    // delivered.
                    self.work.load(tenure.activity.execution.instance);
                }
            }
        }
    }

    /// Releases the permits of the eager activities of a turn, which do not run here.
    fn release_eager(&mut self, turn: &Turn) {
        self.release_permits(
            turn.activities.iter().filter(|activity| activity.eager).map(|activity| activity.name.as_str()),
        );
    }

    /// Starts the eager activities of a turn that was stored.
    fn start_eager(&mut self, turn: &Turn) {
        for activity in turn.activities.iter().filter(|activity| activity.eager) {
            let index = activity.scheduled.0 - turn.after.0 - 1;
            let event = usize::try_from(index).ok().and_then(|index| turn.events.get(index));
            let Some(event) = event else { continue };
            let id = ActivityId { execution: turn.execution.clone(), call: activity.call };
            self.start_eager_activity(id, event.clone(), activity.headers.clone());
        }
    }
}

/// Returns the instances that a turn writes to: its own, those that it sends messages to, and those that it starts.
fn targets(turn: &Turn) -> impl Iterator<Item = &InstanceId> {
    let others = turn.messages.iter().map(|out| &out.to).chain(turn.starts.iter().map(|child| &child.new.instance));
    others.chain([&turn.execution.instance])
}

/// Returns the instances that a write concerns, in an order that a simulation repeats.
fn affected(write: &Write) -> BTreeSet<InstanceId> {
    match write {
        Write::Turn(turn) => targets(turn).cloned().collect(),
        other => BTreeSet::from([other.instance().clone()]),
    }
}

/// Commits, and repeats the request while the call fails. A first turn that creates its instance is not repeated: it is
/// given up after the first failure, and its client stores the start. Entries that failed alone are returned as open.
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
            Err(error) => {
                tracing::warn!(%error, attempts = backoff.attempts(), "committing failed; retrying")
            }
        }
        let given_up = outbound.extract_if(.., Outbound::give_up);
        done.extend(given_up.map(|outbound| (outbound, Err(CommitError::Conflict))));
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
                tracing::warn!(error, attempts = backoff.attempts(), "a commit failed; retrying");
                open.push(outbound);
            }
            answer => done.push((outbound, answer)),
        }
    }
    Answered { done, open, backoff }
}
