//! The two lanes that run batches.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use duroxide::id::InstanceId;
use duroxide::provider::ProviderError;
use tokio::sync::mpsc;

use super::locked::Locked;
use super::scope::Scope;
use super::{Done, Entry, Failure, direct, run};
use crate::again::has_panicked;
use crate::connect::Use;
use crate::fault::Fault;
use crate::link::Link;
use crate::rollout::Members;
use crate::state::State;

/// The limits of a batch: entries, and bytes.
const ENTRIES: usize = 512;
const BYTES: usize = 4 << 20;
/// The pause after an entry has collided with another transaction in the slow lane. The lock that it waits for takes the
/// most time.
const PAUSE: Duration = Duration::from_millis(5);

/// The entries of one call, or some of them, in their order, which no lane changes.
type Group = Vec<Entry>;

/// The queues of the lanes. They are not bounded, because each caller waits for its answer.
pub(crate) struct Lanes {
    fast: mpsc::UnboundedSender<Group>,
}

impl Lanes {
    /// Queues the entries of a call. Their callers receive an error if the lanes have ended.
    pub(crate) fn send(&self, entries: Vec<Entry>) {
        if let Err(unsent) = self.fast.send(entries) {
            fail_calls(&unsent.0, "the threads of the provider have ended");
        }
    }
}

/// Starts the lanes on the current runtime. They end when the returned value is dropped and their queues are empty.
pub(crate) fn spawn(state: &Arc<State>) -> (Lanes, [tokio::task::JoinHandle<()>; 2]) {
    let (fast, fast_queue) = mpsc::unbounded_channel();
    let (slow, slow_queue) = mpsc::unbounded_channel();
    let locked = Arc::new(Locked::default());
    let tasks = [
        tokio::spawn(keep_fast(state.clone(), fast_queue, slow, locked.clone())),
        tokio::spawn(keep_slow(state.clone(), slow_queue, locked)),
    ];
    (Lanes { fast }, tasks)
}

/// Takes an entry into the lane, unless its caller no longer waits or its time is over.
fn admit(entry: Entry, admitted: &mut Vec<Entry>) {
    if entry.call.is_abandoned() {
        return;
    }
    if entry.call.is_late() {
        entry.call.fail(Fault::Late.of(entry.call.operation));
        return;
    }
    admitted.push(entry);
}

async fn keep_fast(
    state: Arc<State>,
    mut queue: mpsc::UnboundedReceiver<Group>,
    slow: mpsc::UnboundedSender<Group>,
    locked: Arc<Locked>,
) {
    while has_panicked("commits", run_fast(&state, &mut queue, &slow, &locked)).await {}
}

async fn keep_slow(state: Arc<State>, mut queue: mpsc::UnboundedReceiver<Group>, locked: Arc<Locked>) {
    let mut waiting = Waiting { locked, fresh: VecDeque::new(), collided: VecDeque::new() };
    while has_panicked("commits that wait", run_slow(&state, &mut queue, &mut waiting)).await {}
}

async fn run_fast(
    state: &Arc<State>,
    queue: &mut mpsc::UnboundedReceiver<Group>,
    slow: &mpsc::UnboundedSender<Group>,
    locked: &Locked,
) {
    let mut link = Link::new(state.clone(), Use::Hot);
    while let Some(first) = queue.recv().await {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(group) = next {
            if locked.was_refused(&group) {
                // The slow lane ends after this one.
                drop(slow.send(group));
            } else {
                for entry in group {
                    bytes += entry.request.size();
                    admit(entry, &mut batch);
                }
            }
            next = if batch.len() < ENTRIES && bytes < BYTES { queue.try_recv().ok() } else { None };
        }
        let members = state.code.last_members();
        let (directly, mut others) = direct::split(batch, members.as_ref());
        others.extend(run_directly(state, &mut link, directly, members.as_ref()).await);
        let waiting = match run_until_known(state, &mut link, others, false).await {
            Some(Again::Locked(entries)) => locked.refuse(entries),
            Some(Again::Failed(entries)) => entries,
            None => Vec::new(),
        };
        by_call(waiting).into_iter().for_each(|group| drop(slow.send(group)));
    }
}

/// Entries of which nothing was written, and which need another attempt.
enum Again {
    /// Other transactions have locked their rows. The rest of the batch was written.
    Locked(Vec<Entry>),
    /// The batch failed, by one of them or more.
    Failed(Vec<Entry>),
}

impl Again {
    fn into_entries(self) -> Vec<Entry> {
        let (Self::Locked(entries) | Self::Failed(entries)) = self;
        entries
    }
}

/// Writes entries without reading first. Returns those of which nothing was written, to be carried out by reading first.
async fn run_directly(state: &State, link: &mut Link, entries: Vec<Entry>, members: Option<&Members>) -> Vec<Entry> {
    let Some(queued) = entries.iter().map(|entry| entry.call.queued).min() else { return entries };
    let Ok(connection) = link.connection(queued).await else { return entries };
    match direct::run(&connection, state, &entries, members).await {
        Ok(done) => {
            // Every entry has an answer.
            finish(state, entries, done).unwrap_or_default()
        }
        Err(failure) if direct::may_read_first(&failure) => entries,
        Err(Failure { fault, .. }) => {
            connection.spoil();
            fail_calls(&entries, &fault.reason());
            Vec::new()
        }
    }
}

/// Returns the entries of each call. Those of one call are side by side.
fn by_call(entries: Vec<Entry>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for entry in entries {
        match groups.last_mut() {
            Some(group) if group.first().is_some_and(|first| Arc::ptr_eq(&first.call, &entry.call)) => {
                group.push(entry)
            }
            _ => groups.push(vec![entry]),
        }
    }
    groups
}

async fn run_slow(state: &Arc<State>, queue: &mut mpsc::UnboundedReceiver<Group>, waiting: &mut Waiting) {
    let mut link = Link::new(state.clone(), Use::Waiting);
    loop {
        while let Ok(group) = queue.try_recv() {
            waiting.fresh.push_back(group.into());
        }
        let next = match waiting.next() {
            Some(group) => Some(group),
            None => queue.recv().await.map(VecDeque::from),
        };
        let Some(mut group) = next else { return };
        let Waiting { fresh, collided, .. } = waiting;
        let batch = with_companions(&mut group, fresh).or_else(|| with_companions(&mut group, collided));
        if let Some(batch) = batch {
            let mut admitted = Vec::new();
            batch.into_iter().for_each(|entry| admit(entry, &mut admitted));
            match run_until_known(state, &mut link, admitted, true).await.map(Again::into_entries) {
                // One entry may be the cause: each is carried out alone.
                Some(again) if again.len() > 1 => {
                    run_one_by_one(state, &mut link, by_call(again), waiting).await;
                }
                Some(again) => waiting.wait_again(again.into()).await,
                None => {}
            }
            continue;
        }
        run_one_by_one(state, &mut link, vec![group.into()], waiting).await;
    }
}

/// Runs the entries of these groups, each in a transaction of its own.
async fn run_one_by_one(state: &State, link: &mut Link, groups: Vec<Group>, waiting: &mut Waiting) {
    for group in groups {
        let mut group = VecDeque::from(group);
        while let Some(entry) = group.pop_front() {
            let mut admitted = Vec::new();
            admit(entry, &mut admitted);
            // An entry that collides with another transaction lets other calls pass, until its time is over.
            if let Some(again) = run_until_known(state, link, admitted, true).await {
                let again = waiting.locked.refuse(again.into_entries());
                if !again.is_empty() {
                    again.into_iter().rev().for_each(|entry| group.push_front(entry));
                    waiting.wait_again(std::mem::take(&mut group)).await;
                }
            }
        }
    }
}

/// The calls that wait in the slow lane. A lock may be held for a long time, by a transaction of the program. So a call that has
/// collided is tried again only while no other waits, and then for the short time for which the connection waits for a lock.
struct Waiting {
    locked: Arc<Locked>,
    fresh: VecDeque<VecDeque<Entry>>,
    collided: VecDeque<VecDeque<Entry>>,
}

impl Waiting {
    fn next(&mut self) -> Option<VecDeque<Entry>> {
        self.fresh.pop_front().or_else(|| self.collided.pop_front())
    }

    /// Puts back a call that has collided, and pauses if no other waits.
    async fn wait_again(&mut self, group: VecDeque<Entry>) {
        self.collided.push_back(group);
        if self.fresh.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Takes the waiting calls of one entry that lock an instance which this call locks, too: they would wait for the same
/// lock, one after another, and the fast lane would find it locked all that time. Returns `None` if the call has several
/// entries, or no companion.
fn with_companions(group: &mut VecDeque<Entry>, waiting: &mut VecDeque<VecDeque<Entry>>) -> Option<Vec<Entry>> {
    let scope = |group: &VecDeque<Entry>| match group.iter().collect::<Vec<_>>()[..] {
        [entry] => Some(Scope::of(&entry.request)).filter(|scope| !scope.replaces).map(|scope| scope.locks),
        _ => None,
    };
    let locks: HashSet<InstanceId> = scope(group)?.into_iter().collect();
    let mut batch: Vec<Entry> = group.drain(..).collect();
    let mut bytes: usize = batch.iter().map(|entry| entry.request.size()).sum();
    // As many as a batch has room for are considered: a long queue is not searched for each of its calls.
    let later = waiting.split_off(waiting.len().min(ENTRIES));
    for mut other in std::mem::take(waiting) {
        let has_room = batch.len() < ENTRIES && bytes < BYTES;
        let is_companion = has_room && scope(&other).is_some_and(|ids| ids.iter().any(|id| locks.contains(id)));
        if is_companion {
            bytes += other.iter().map(|entry| entry.request.size()).sum::<usize>();
            batch.extend(other.drain(..));
        } else {
            waiting.push_back(other);
        }
    }
    waiting.extend(later);
    if batch.len() > 1 {
        return Some(batch);
    }
    group.extend(batch);
    None
}

/// Runs a batch until its outcome is known, or cannot be known. Returns the entries that need another attempt.
async fn run_until_known(state: &State, link: &mut Link, batch: Vec<Entry>, waits: bool) -> Option<Again> {
    let mut batch = batch;
    loop {
        let queued = batch.iter().map(|entry| entry.call.queued).min()?;
        let connection = match link.connection(queued).await {
            Ok(connection) => connection,
            Err(reason) => {
                fail_calls(&batch, &reason);
                return None;
            }
        };
        match run(&connection, state, &batch, waits).await {
            Ok(done) => return finish(state, batch, done).map(Again::Locked),
            Err(Failure { fault, is_unknown: true }) => {
                fail_calls(&batch, &fault.reason());
                return None;
            }
            // The connection is lost, and nothing was written: try another one.
            Err(Failure { fault, .. }) if !fault.spares_connection() => {
                connection.spoil();
                let mut still = Vec::new();
                batch.into_iter().for_each(|entry| admit(entry, &mut still));
                batch = still;
            }
            Err(Failure { fault, .. }) if waits && batch.len() == 1 && !fault.is_collision() => {
                fail_entries(&batch, &fault.reason());
                return None;
            }
            // One entry may be the cause: each is carried out alone.
            Err(_) => return Some(Again::Failed(batch)),
        }
    }
}

/// Answers entries of which nothing was written.
fn fail_entries(entries: &[Entry], reason: &str) {
    for entry in entries {
        entry.answer(entry.request.failed(reason.to_owned()));
    }
}

/// Fails the calls of entries as a whole: the outcome is not known.
fn fail_calls(entries: &[Entry], reason: &str) {
    for Entry { call, .. } in entries {
        call.fail(ProviderError::retryable(call.operation, reason.to_owned()));
    }
}

/// Sends the signals and the answers of a batch. Returns the entries that were put aside.
fn finish(state: &State, batch: Vec<Entry>, done: Done) -> Option<Vec<Entry>> {
    done.named.into_iter().for_each(|time| state.saw(time));
    state.signal(done.signals, done.work);
    let mut aside = Vec::new();
    let mut is_heard = true;
    for (entry, answer) in batch.into_iter().zip(done.answers) {
        match answer {
            Some(answer) => is_heard &= entry.answer(answer),
            None => aside.push(entry),
        }
    }
    if !is_heard {
        // No caller learns of the effect.
        state.wakeups.work();
    }
    (!aside.is_empty()).then_some(aside)
}
