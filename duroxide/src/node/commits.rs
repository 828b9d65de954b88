//! Sends the commits of this node, and handles their answers.

use std::sync::Arc;
use std::time::Instant;

use super::delivery::{Delivery, LocalOutcome};
use super::outbox::{Answered, Context, Outbound, TurnContext, affected, targets};
use super::{Answer, Node};
use tracing::Instrument;

use crate::backoff::Backoff;
use crate::id::{ActivityId, InstanceId};
use crate::message::Message;
use crate::provider::{CommitError, Committed, Lease, MessageRow, Placement, Provider, Tenure, Turn, Write};
use crate::telemetry::spans;

impl Node {
    /// Adds a write to the commits that are sent at the end of the round.
    pub(super) fn commit(&mut self, write: Write, context: Context) {
        self.outbox.push(write, context);
    }

    /// Stores an outcome as a message, because its instance is not live here.
    pub(super) fn store_outcome(&mut self, outcome: Box<LocalOutcome>) {
        let LocalOutcome { activity, attempt, claim, input, payload, measure, .. } = *outcome;
        let message = Message::new(input, payload).for_execution(activity.execution.number);
        let tenure = Tenure { activity, attempt, claim };
        self.commit(Write::Outcome { tenure, message: MessageRow::from(&message) }, Context::Attempt(measure));
    }

    /// Sends the commits of the round in one request.
    pub(super) fn send_commits(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let outbound = self.outbox.take();
        let (provider, lease) = (self.shared.provider.clone(), self.membership.lease);
        self.metrics.commit_size.record(outbound.len() as f64);
        let (sent, duration) = (Instant::now(), self.metrics.commit_duration.clone());
        let span = spans::commit(outbound.len(), &self.shared.info.id);
        let request = async move {
            let answered = until_answered(&*provider, &lease, outbound, Backoff::default()).await;
            duration.record(sent.elapsed().as_secs_f64());
            Answer::Committed(lease, answered)
        };
        self.ask(request.instrument(span));
    }

    /// Handles the answers to commits.
    pub(super) fn committed(&mut self, lease: Lease, Answered { done, open, locked, mut backoff }: Answered) {
        for outbound in locked {
            let provider = self.shared.provider.clone();
            self.ask(async move {
                let answered = until_answered(&*provider, &lease, vec![outbound], Backoff::default()).await;
                Answer::Committed(lease, answered)
            });
        }
        if !open.is_empty() {
            let provider = self.shared.provider.clone();
            self.ask(async move {
                tokio::time::sleep(backoff.next()).await;
                Answer::Committed(lease, until_answered(&*provider, &lease, open, backoff).await)
            });
        }
        let held = self.membership.holds(&lease);
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
                (write, context) => self.write_answered(write, context, result),
            }
        }
    }

    fn turn_committed(&mut self, turn: Turn, context: TurnContext, committed: &Committed, held: bool) {
        self.lost.confirm(&turn);
        self.stop_cancelled(&turn, &context);
        let TurnContext { after, start_stored, eager, facts, delivered_outcomes, measure, .. } = context;
        measure.record(&turn);
        for delivery in &delivered_outcomes {
            if let Delivery::Outcome(outcome) = delivery
                && let Some(measure) = &outcome.measure
            {
                measure.record();
            }
        }
        facts.inspect(|facts| facts.log(&turn));
        if let Some(start_stored) = start_stored {
            // The client may have stopped waiting.
            let _ = start_stored.send(());
        }
        let generation = after.generation;
        let follow_up = self.live.turn_stored(&turn, after);
        self.follow_up(follow_up);
        if held {
            eager.into_iter().for_each(|activity| self.start_eager_activity(&turn.execution, activity));
        } else {
            // The lease is lost: the next owner of the activities runs them.
            self.release_eager(&turn);
        }
        self.settle_later(&turn.execution.instance);
        self.live.keep_timers(&turn, generation, self.now);
        self.forward(turn, committed);
    }

    /// Cancels the activities whose outcome is no longer wanted, and discards outcomes that wait in the inbox.
    fn stop_cancelled(&mut self, turn: &Turn, context: &TurnContext) {
        for call in turn.cancelled_activities.iter().chain(&context.open_calls) {
            let id = ActivityId { execution: turn.execution.clone(), call: *call };
            self.activities.cancel(&id);
            self.last_failures.forget(&id);
            self.live.discard_outcome(&id);
        }
    }

    /// Delivers the messages of a turn to instances of this node, without a request to the provider.
    fn forward(&mut self, turn: Turn, committed: &Committed) {
        if committed.repeated {
            // The placements are unknown: the provider shows which of the instances this node owns, and their messages.
            return targets(&turn).for_each(|instance| self.work.load(instance.clone()));
        }
        let own = turn.execution.instance;
        for (out, placement) in turn.messages.into_iter().zip(&committed.messages) {
            self.placed(out.to, out.message, *placement);
        }
        for (child, placement) in turn.starts.into_iter().zip(&committed.starts) {
            let accepted = match placement.start {
                Placement::Owned { epoch, number, .. } if epoch == self.membership.lease.epoch => {
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

    /// Delivers a message that is stored for an instance of this node.
    fn placed(&mut self, to: InstanceId, message: MessageRow, placement: Placement) {
        if let Placement::Owned { epoch, identity, number: Some(number) } = placement
            && epoch == self.membership.lease.epoch
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
        if held && !matches!(error, CommitError::Failed(_) | CommitError::Locked) {
            self.lost.mark_unconfirmed(turn);
        }
        let generation = context.after.generation;
        self.store_outcomes(context.into_deliveries());
        if self.live.current(instance, generation).is_some() {
            let deliveries = self.live.remove(instance);
            self.store_outcomes(deliveries);
        }
        if matches!(error, CommitError::Fenced) {
            // Either the instance has another owner, or the lease is lost: the answer to a renewal decides.
            self.membership.check();
        }
        // An earlier sending of the turn may have been stored, with its answer lost. Then the node owns instances that
        // the turn created, and has not forwarded its messages. This holds for a fenced turn as well: the instance may
        // have ended, and a later one with its id belong to this node.
        targets(turn).for_each(|instance| self.work.load(instance.clone()));
    }

    fn write_answered(&mut self, write: Write, context: Context, result: Result<Committed, CommitError>) {
        if result.is_ok() {
            match context {
                Context::Attempt(Some(measure)) if matches!(write, Write::Retry { .. }) => measure.record_retry(),
                Context::Attempt(Some(measure)) => measure.record(),
                Context::Counted(counter) => counter.increment(1),
                Context::Attempt(None) | Context::Turn(_) | Context::Other => {}
            }
        }
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
}

/// Commits, and repeats the request while the call fails. A first turn that creates its instance is not repeated: it is
/// given up after the first failure, and its client stores the start. Entries that failed alone are returned as open, and
/// those whose rows are locked as locked.
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
        // Its outcome is unknown. It is handled as a conflict: the live copy is dropped and the instance loaded.
        let given_up = outbound.extract_if(.., Outbound::give_up);
        done.extend(given_up.map(|outbound| (outbound, Err(CommitError::Conflict))));
        if outbound.is_empty() {
            break Vec::new();
        }
        tokio::time::sleep(backoff.next()).await;
    };
    let (mut open, mut locked) = (Vec::new(), Vec::new());
    let (is_alone, mut answers) = (outbound.len() == 1, answers.into_iter());
    for mut outbound in outbound {
        match answers.next().unwrap_or(Err(CommitError::Conflict)) {
            Err(CommitError::Locked) if !is_alone => locked.push(outbound),
            // A call with one entry should have waited for the lock.
            Err(error @ (CommitError::Failed(_) | CommitError::Locked)) if !outbound.leave_to_client() => {
                tracing::warn!(%error, attempts = backoff.attempts(), "a commit failed; retrying");
                open.push(outbound);
            }
            answer => done.push((outbound, answer)),
        }
    }
    Answered { done, open, locked, backoff }
}
