//! Turns that are written in one round trip, without reading first.
//!
//! Most turns concern rows of their own instance only: they continue or finish it, or create it for its own node. Each
//! kind has one statement, which checks the preconditions of all its turns and writes their rows ([`statements`]). If a
//! precondition of one turn does not hold, or a row has changed since the statement began, the statement fails as a whole
//! and nothing is written. The entries then take the way of other batches, which reads the rows and finds the reason.
//!
//! The rows of a table that belong to a turn name it by its position, from 1, in the arrays of the statement.

mod statements;
mod suits;

use std::sync::Arc;

use duroxide::Timestamp;
use duroxide::id::{CommitId, Epoch};
use duroxide::provider::{Commit, Committed, Lease, NewInstance, Placement, Signals, Then, Turn, Write};

use self::suits::Kind;
use super::read::epoch_key;
use super::{Answer, Done, Entry, Failure, Request};
use crate::connect::{Connection, Step, step};
use crate::fault::Fault;
use crate::rollout::Members;
use crate::state::State;
use crate::work::Work;

/// A turn that suits this way.
#[derive(Clone, Copy)]
struct Direct<'a> {
    commit: CommitId,
    owner: Epoch,
    turn: &'a Turn,
}

/// The turns of a batch, by kind, in the order of their instances' ids, which is the order of the locks.
#[derive(Default)]
struct Turns<'a> {
    created: Vec<(&'a NewInstance, Direct<'a>)>,
    continued: Vec<Direct<'a>>,
    finished: Vec<Direct<'a>>,
}

/// Separates the entries that are written directly from the others. The entries of one call stay together, and an instance
/// occurs once.
pub(super) fn split(entries: Vec<Entry>, members: Option<&Members>) -> (Vec<Entry>, Vec<Entry>) {
    let mut seen = std::collections::HashSet::new();
    let (mut direct, mut others) = (Vec::new(), Vec::new());
    let mut entries = entries.into_iter().peekable();
    while let Some(first) = entries.next() {
        let call = first.call.clone();
        let mut group = vec![first];
        while let Some(next) = entries.next_if(|next| Arc::ptr_eq(&next.call, &call)) {
            group.push(next);
        }
        let suits = group.iter().all(|entry| match &entry.request {
            Request::Commit { lease, commit } => {
                suits::kind(lease, commit, members).is_some() && seen.insert(commit.write.instance().clone())
            }
            Request::Submit(_) => false,
        });
        if suits { direct.extend(group) } else { others.extend(group) }
    }
    (direct, others)
}

/// Writes entries that [`split`] has chosen with these members. A failure that spares the connection leaves no open
/// transaction.
pub(super) async fn run(
    connection: &Connection,
    state: &State,
    entries: &[Entry],
    members: Option<&Members>,
) -> Result<Done, Failure> {
    let mut turns = Turns::default();
    for entry in entries {
        if let Request::Commit { lease, commit } = &entry.request {
            turns.add(lease, commit, members);
        }
    }
    turns.sort();
    let deadline = state.deadline(entries.iter().map(|entry| entry.call.queued).min());
    let written = connection.run(&steps(state, &turns, members, deadline)).await;
    if let Err(fault) = written {
        let is_clean = fault.spares_connection();
        if is_clean {
            connection.roll_back().await;
        }
        return Err(Failure { is_unknown: !is_clean, fault });
    }
    Ok(done(entries))
}

impl<'a> Turns<'a> {
    fn add(&mut self, lease: &Lease, commit: &'a Commit, members: Option<&Members>) {
        let Write::Turn(turn) = &commit.write else { return };
        let direct = Direct { commit: commit.id, owner: lease.epoch, turn };
        match suits::kind(lease, commit, members) {
            Some(Kind::Created(new)) => self.created.push((new, direct)),
            Some(Kind::Continued) => self.continued.push(direct),
            Some(Kind::Finished) => self.finished.push(direct),
            None => {}
        }
    }

    fn sort(&mut self) {
        let id = |direct: &Direct<'a>| direct.turn.execution.instance.clone();
        self.created.sort_by_cached_key(|(_, direct)| id(direct));
        self.continued.sort_by_cached_key(id);
        self.finished.sort_by_cached_key(id);
    }
}

/// Returns the statements: one, which is a transaction of its own, or a transaction of several.
fn steps<'a>(state: &State, turns: &'a Turns<'a>, members: Option<&Members>, deadline: i64) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    if let Some(members) = members.filter(|_| !turns.created.is_empty()) {
        // A take-over of these epochs waits for this transaction, or has ended them before the next statement begins.
        let mut keys: Vec<i32> = turns.created.iter().map(|(_, direct)| epoch_key(direct.owner)).collect();
        keys.sort_unstable();
        keys.dedup();
        let lock = "SELECT pg_advisory_xact_lock_shared($1, k) FROM unnest($2::integer[]) AS t (k)";
        steps.push(step!(lock, state.database.lock_class, keys));
        steps.push(statements::create(&turns.created, members, deadline));
    }
    if !turns.continued.is_empty() {
        steps.push(statements::go_on(&turns.continued, deadline));
    }
    if !turns.finished.is_empty() {
        steps.push(statements::finish(&turns.finished, deadline));
    }
    if steps.len() > 1 {
        steps.insert(0, step!("BEGIN"));
        steps.push(step!("COMMIT"));
    }
    steps
}

/// Makes the answers and the signals of entries that were written.
fn done(entries: &[Entry]) -> Done {
    let (mut signals, mut work) = (Signals::default(), Work::default());
    let (mut named, mut answers) = (None::<Timestamp>, Vec::new());
    for entry in entries {
        let Request::Commit { lease, commit } = &entry.request else { continue };
        let Write::Turn(turn) = &commit.write else { continue };
        named = named.max(Some(turn.time));
        for activity in turn.activities.iter().filter(|activity| !activity.eager) {
            work.add_activity(&activity.name, activity.tag.as_deref());
        }
        if let Then::Finish { status } = turn.then {
            // A turn without events leaves the outcome to the waiting client, which reads it.
            match turn.events.last() {
                Some(outcome) => signals.finished(&turn.execution, status, Some(outcome)),
                None => signals.changed(&turn.execution.instance),
            }
        }
        let identity = turn.execution.identity;
        let timer = Placement::Owned { epoch: lease.epoch, identity, number: None };
        let messages = turn.messages.iter().map(|_| timer).collect();
        answers.push(Some(Answer::Committed(Ok(Committed { messages, ..Committed::default() }))));
    }
    Done { answers, signals, work, named }
}

/// Returns true if a batch that failed so may be written in the way of other batches.
pub(super) fn may_read_first(failure: &Failure) -> bool {
    !failure.is_unknown && !matches!(failure.fault, Fault::Late)
}
