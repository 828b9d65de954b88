//! The writes of nodes and clients, in batches.
//!
//! Turns that concern their own instances only are written without reading first ([`direct`]). All other entries form a
//! batch, which is one transaction of two round trips. The first one locks and reads all rows that the entries concern
//! ([`read`]). Then the entries are applied to these rows in memory, one after another, by code that knows no SQL
//! ([`model`], [`turns`], [`activities`], [`submit`]). The second round trip writes the changes of all entries, by one
//! statement per table, and commits ([`write`]).
//!
//! Two lanes run batches. The fast lane takes all entries that wait, and never waits for a row lock. An entry whose rows
//! another transaction has locked, and every entry of a batch that failed, goes to the slow lane, which waits for locks. It
//! takes one entry at a time, and with it those that wait for the same instance. The writes of a node that are sent in one
//! call do not wait for each other: one whose rows are locked is answered so, and the node sends it again alone ([`locked`]).

mod activities;
mod direct;
mod effects;
mod graft;
mod lanes;
mod locked;
mod model;
mod pauses;
mod read;
mod redact;
mod scope;
mod submit;
mod turns;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use duroxide::Timestamp;
use duroxide::clock::Clock;
use duroxide::id::InstanceId;
use duroxide::provider::{
    Commit, CommitError, Committed, Lease, ProviderError, Signals, StartRequest, Submission, SubmitError, Submitted,
    Write,
};
use tokio::sync::oneshot;

pub(crate) use self::lanes::{Lanes, spawn};
pub(crate) use self::read::{MEMBERS, epoch_key};
pub(crate) use self::write::{READY_REBUILD, UNREADY, cancellations};

use self::scope::Scope;
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::remove;
use crate::rows::{identity, status};
use crate::state::{DEADLINE, State};
use crate::work::Work;

/// A write of a node or a client.
pub(crate) enum Request {
    Commit { lease: Lease, commit: Arc<Commit> },
    Submit(Box<Submission>),
}

pub(crate) enum Answer {
    Committed(Result<Committed, CommitError>),
    Submitted(Result<Submitted, SubmitError>),
}

impl Answer {
    pub(crate) fn committed(self) -> Option<Result<Committed, CommitError>> {
        match self {
            Self::Committed(result) => Some(result),
            Self::Submitted(_) => None,
        }
    }

    pub(crate) fn submitted(self) -> Option<Result<Submitted, SubmitError>> {
        match self {
            Self::Submitted(result) => Some(result),
            Self::Committed(_) => None,
        }
    }
}

impl Request {
    /// Returns the answer to an entry that the database has refused to write.
    fn failed(&self, reason: String) -> Answer {
        match self {
            Self::Commit { .. } => Answer::Committed(Err(CommitError::Failed(reason))),
            Self::Submit(_) => Answer::Submitted(Err(SubmitError::Failed(reason))),
        }
    }

    /// Estimates its size in bytes.
    fn size(&self) -> usize {
        let turn = |turn: &duroxide::provider::Turn| {
            turn.events.iter().map(|event| event.data.len() + event.payload.len() + 64).sum::<usize>()
                + turn.messages.iter().map(|out| out.message.payload.len() + 256).sum::<usize>()
                + turn.starts.iter().map(|child| child.new.start.payload.len() + 512).sum::<usize>()
        };
        256 + match self {
            Self::Commit { commit, .. } => match &commit.write {
                Write::Turn(it) => turn(it),
                Write::Outcome { message, .. } => message.payload.len(),
                _ => 0,
            },
            Self::Submit(submission) => match submission.unaudited() {
                Submission::Start(StartRequest { new, .. }) => new.start.payload.len(),
                Submission::Send(send) => send.message.payload.len(),
                Submission::Terminate { turn: it, .. } => turn(it),
                Submission::Graft(graft) => {
                    graft.history.iter().map(|event| event.data.len() + event.payload.len() + 64).sum()
                }
                _ => 0,
            },
        }
    }
}

/// The answers of one call, which are sent once they are complete.
pub(crate) struct Call {
    operation: &'static str,
    queued: Instant,
    /// True if its entries are several writes of a node, which are independent of each other.
    is_divisible: bool,
    /// A std mutex, held for a few instructions.
    open: Mutex<Option<Open>>,
}

struct Open {
    answers: Vec<Option<Answer>>,
    caller: oneshot::Sender<Result<Vec<Answer>, ProviderError>>,
}

/// An entry of a call.
pub(crate) struct Entry {
    request: Request,
    call: Arc<Call>,
    index: usize,
}

/// Makes the entries of a call.
pub(crate) fn call(
    operation: &'static str,
    requests: Vec<Request>,
) -> (Vec<Entry>, oneshot::Receiver<Result<Vec<Answer>, ProviderError>>) {
    let (caller, answered) = oneshot::channel();
    let answers = requests.iter().map(|_| None).collect();
    let open = Mutex::new(Some(Open { answers, caller }));
    let is_divisible = requests.len() > 1 && requests.iter().all(|entry| matches!(entry, Request::Commit { .. }));
    let call = Arc::new(Call { operation, queued: Instant::now(), is_divisible, open });
    let entries = requests.into_iter().enumerate();
    (entries.map(|(index, request)| Entry { request, call: call.clone(), index }).collect(), answered)
}

impl Call {
    fn is_late(&self) -> bool {
        self.queued.elapsed() > DEADLINE
    }

    /// Returns true if the caller no longer waits: an entry that has not begun is skipped.
    fn is_abandoned(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().is_none_or(|open| open.caller.is_closed())
    }

    /// Fails the call as a whole: the outcome of some of its entries is not known.
    fn fail(&self, error: ProviderError) {
        if let Some(open) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = open.caller.send(Err(error));
        }
    }
}

impl Entry {
    /// Answers the entry. Returns false if no caller receives the answer.
    fn answer(&self, answer: Answer) -> bool {
        let mut slot = self.call.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = slot.as_mut() else { return false };
        if let Some(place) = open.answers.get_mut(self.index) {
            *place = Some(answer);
        }
        if open.answers.iter().any(Option::is_none) {
            return !open.caller.is_closed();
        }
        let Some(Open { answers, caller }) = slot.take() else { return false };
        caller.send(Ok(answers.into_iter().flatten().collect())).is_ok()
    }
}

/// The result of a batch that was committed.
struct Done {
    /// The answers by entry. `None`: the entry was put aside, and nothing of it was written.
    answers: Vec<Option<Answer>>,
    signals: Signals,
    work: Work,
    named: Option<Timestamp>,
}

/// The failure of a batch.
struct Failure {
    fault: Fault,
    /// True if the batch may nevertheless have been committed.
    is_unknown: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, is_unknown: false }
    }
}

/// Carries out a batch in one transaction. `waits`: it is one of the slow lane, which waits for locks.
async fn run(connection: &Connection, state: &State, entries: &[Entry], waits: bool) -> Result<Done, Failure> {
    let scopes: Vec<Scope<'_>> = entries.iter().map(|entry| Scope::of(&entry.request)).collect();
    let result = attempt(connection, state, entries, &scopes, waits).await;
    if let Err(failure) = &result
        && failure.fault.spares_connection()
    {
        connection.roll_back().await;
    }
    result
}

async fn attempt(
    connection: &Connection,
    state: &State,
    entries: &[Entry],
    scopes: &[Scope<'_>],
    waits: bool,
) -> Result<Done, Failure> {
    let replaces = waits && scopes.iter().any(|scope| scope.replaces);
    let (mut replaced, mut is_revived, mut redacted) = (None, false, None);
    if replaces {
        connection.query(step!("BEGIN")).await?;
        replaced = replace(connection, entries).await?;
        is_revived = graft::revive(connection, entries).await?;
        redacted = redact::redact(connection, entries).await?;
    }
    let mut all = Scope::default();
    entries.iter().for_each(|entry| all.add(Scope::of(&entry.request)));
    let mode = read::Mode { begins: !replaces, waits };
    let read = read::read(connection, state.database.lock_class, &state.code, &all, mode).await?;
    let mut aside: Vec<bool> = scopes.iter().map(|scope| read.is_aside(scope) || (scope.replaces && !waits)).collect();
    let mut model = read.model;
    let is_redacted = matches!(redacted, Some(Ok(true)));
    model.redacted = redacted;
    (model.named, model.now) = (state.named(), state.clock.now());
    if let Some(id) = &replaced {
        model.signals.changed(id);
        model.signals.work = true;
    }
    let mut answers = Vec::with_capacity(entries.len());
    for (n, entry) in entries.iter().enumerate() {
        // The entries of one call keep their order, unless they are independent of each other.
        let call = &entry.call;
        let follows = |before: usize| aside[before] && Arc::ptr_eq(call, &entries[before].call);
        let is_aside = aside[n] || (!call.is_divisible && (0..n).any(follows));
        aside[n] = is_aside;
        answers.push((!is_aside).then(|| match &entry.request {
            Request::Commit { lease, commit } => Answer::Committed(model.commit(lease, commit)),
            Request::Submit(submission) => Answer::Submitted(model.submit(submission)),
        }));
    }
    let is_refused = |answer: &Option<Answer>| !matches!(answer, Some(Answer::Submitted(Ok(_))));
    // Nothing can refuse a graft on an instance that was revived for it. If the instance stayed as it is, it would be lost.
    if model.is_split || is_revived && answers.iter().any(is_refused) {
        return Err(Fault::Contended.into());
    }
    let mut steps = write::steps(&model);
    if steps.is_empty() && replaced.is_none() && !is_redacted {
        connection.query(step!("ROLLBACK")).await?;
    } else {
        let deadline = state.deadline(entries.iter().map(|entry| entry.call.queued).min());
        let guard = "SELECT 1 / (extract(epoch FROM clock_timestamp()) * 1000000 < $1::bigint)::integer";
        steps.push(step!(guard, deadline));
        steps.push(step!("COMMIT"));
        let written = connection.run(&steps).await;
        written.map_err(|fault| Failure { is_unknown: !fault.spares_connection(), fault })?;
    }
    drop(steps);
    if model.puts_back() {
        state.looks.forget();
    }
    let (signals, work) = (std::mem::take(&mut model.signals), std::mem::take(&mut model.work));
    Ok(Done { answers, signals, work, named: model.named })
}

/// Removes the finished instance that a start replaces. Returns its id.
async fn replace(connection: &Connection, entries: &[Entry]) -> Result<Option<InstanceId>, Fault> {
    let [Entry { request: Request::Submit(submission), .. }] = entries else { return Ok(None) };
    let Submission::Start(StartRequest { new, if_exists, .. }) = submission.unaudited() else { return Ok(None) };
    if *if_exists != duroxide::provider::IfExists::Replace {
        return Ok(None);
    }
    let lock = "SELECT seq, identity, status FROM instances WHERE id = $1 FOR UPDATE";
    let recorded = "SELECT 1 FROM dedup WHERE id = $1";
    let mut answers =
        connection.run(&[step!(lock, new.instance.as_str()), step!(recorded, new.start.id.0)]).await?.into_iter();
    let (found, recorded) = (answers.next().unwrap_or_default(), answers.next().unwrap_or_default());
    let Some(row) = found.first().filter(|_| recorded.is_empty()) else { return Ok(None) };
    if identity(row, "identity")? == new.start.id.into() || !status(row, "status")?.is_finished() {
        return Ok(None);
    }
    remove::remove(connection, &[row.try_get("seq")?]).await?;
    Ok(Some(new.instance.clone()))
}
