//! The commits of a round, and the data for the handling of their answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::delivery::Delivery;
use super::inbox::Inbox;
use super::live::StoredTurn;
use super::log::TurnFacts;
use super::measure::{AttemptMeasure, TurnMeasure};
use crate::backoff::Backoff;
use crate::effect::ScheduledActivity;
use crate::id::{CallId, CommitId, InstanceId};
use crate::provider::{Commit, CommitError, Committed, Turn, Write};
use crate::replay::Held;
use crate::telemetry::Counter;

/// A commit in flight.
pub(super) struct Outbound {
    pub(super) commit: Arc<Commit>,
    pub(super) context: Context,
    /// True if it has no answer and is not repeated: its effect is unknown.
    pub(super) given_up: bool,
}

impl Outbound {
    pub(super) fn new(write: Write, context: Context) -> Self {
        Self { commit: Arc::new(Commit { id: CommitId::new(), write }), context, given_up: false }
    }

    /// Drops the sender to the client of a first turn that creates its instance, so that the client stores the start.
    /// Returns true if this is such a turn.
    pub(super) fn leave_to_client(&mut self) -> bool {
        let Context::Turn(turn) = &mut self.context else { return false };
        turn.start_stored.take().is_some()
    }

    /// Like [`leave_to_client`](Self::leave_to_client), for a commit without an answer.
    pub(super) fn give_up(&mut self) -> bool {
        self.given_up = self.leave_to_client();
        self.given_up
    }
}

/// The results of commits that were sent together.
pub(super) struct Answered {
    /// The commits that are not repeated: answered, or given up.
    pub(super) done: Vec<(Outbound, Result<Committed, CommitError>)>,
    /// The commits that failed alone. They are repeated on their own, so that the others need not wait for them.
    pub(super) open: Vec<Outbound>,
    /// The commits that wait for a lock. Each is sent again in a call of its own.
    pub(super) locked: Vec<Outbound>,
    pub(super) backoff: Backoff,
}

/// The data for the handling of an answer.
pub(super) enum Context {
    Turn(Box<TurnContext>),
    /// An attempt whose outcome, or retry, is stored.
    Attempt(Option<AttemptMeasure>),
    /// A write that is counted.
    Counted(Counter),
    Other,
}

pub(super) struct TurnContext {
    /// The live copy after the turn, for the time when the turn is stored.
    pub(super) after: StoredTurn,
    /// Sent once the instance that the turn creates is stored.
    pub(super) start_stored: Option<oneshot::Sender<()>>,
    /// The activities that this node begins once the turn is stored.
    pub(super) eager: Vec<ScheduledActivity>,
    /// Outcomes that the turn has read. They are not stored before the turn is.
    pub(super) delivered_outcomes: Vec<Delivery>,
    /// Calls that were open when the execution ended.
    pub(super) open_calls: Vec<CallId>,
    pub(super) facts: Option<Box<TurnFacts>>,
    pub(super) measure: TurnMeasure,
}

impl TurnContext {
    /// Returns the context of a turn that only suspends the instance.
    pub(super) fn suspension(generation: u64, suspensions: Counter) -> Self {
        let after = StoredTurn { generation, copy: None, undelivered: Inbox::default(), held: Held::default() };
        let measure = TurnMeasure::Suspension(suspensions);
        Self {
            after,
            start_stored: None,
            eager: Vec::new(),
            delivered_outcomes: Vec::new(),
            open_calls: Vec::new(),
            facts: None,
            measure,
        }
    }

    /// Returns the deliveries of a turn that is not stored: outcomes among them are to be stored as messages.
    pub(super) fn into_deliveries(self) -> impl Iterator<Item = Delivery> {
        self.delivered_outcomes.into_iter().chain(self.after.undelivered.into_outcomes())
    }
}

/// The commits of a round, which are sent together at its end.
#[derive(Default)]
pub(super) struct Outbox(Vec<Outbound>);

impl Outbox {
    pub(super) fn push(&mut self, write: Write, context: Context) {
        self.0.push(Outbound::new(write, context));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<Outbound> {
        std::mem::take(&mut self.0)
    }
}

/// Returns the instances that a turn writes to: its own, those that it sends messages to, and those that it starts.
pub(super) fn targets(turn: &Turn) -> impl Iterator<Item = &InstanceId> {
    let others = turn.messages.iter().map(|out| &out.to).chain(turn.starts.iter().map(|child| &child.new.instance));
    others.chain([&turn.execution.instance])
}

/// Returns the instances that a write concerns, in an order that a simulation repeats.
pub(super) fn affected(write: &Write) -> BTreeSet<InstanceId> {
    match write {
        Write::Turn(turn) => targets(turn).cloned().collect(),
        other => BTreeSet::from([other.instance().clone()]),
    }
}
