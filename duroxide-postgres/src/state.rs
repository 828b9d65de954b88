//! The state that all parts of a provider share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use duroxide::Timestamp;
use duroxide::clock::Clock;
use duroxide::id::{Epoch, InstanceId, NodeId};
use duroxide::provider::{ProviderError, Signals, Wakeups};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::acquire::Looks;
use crate::clock::DatabaseClock;
use crate::connect::{Database, LIMIT};
use crate::notify::channel_of;
use crate::outbox::Within;
use crate::rollout::{KnownCode, Places};
use crate::schema::newer;
use crate::session::Sessions;
use crate::transaction::Transactions;
use crate::work::Work;

pub(crate) struct State {
    pub(crate) database: Database,
    /// The time for which a request waits for a connection.
    pub(crate) patience: Duration,
    pub(crate) clock: DatabaseClock,
    pub(crate) wakeups: Wakeups,
    /// The name of this process, by which the others notify it.
    pub(crate) listener: Uuid,
    pub(crate) code: KnownCode,
    pub(crate) looks: Looks,
    pub(crate) sessions: Sessions,
    pub(crate) within: Within,
    pub(crate) transactions: Transactions,
    /// True if the notifications of other processes arrive.
    hears: AtomicBool,
    /// True once the role of this process was found to have no right to watch instances.
    polls_watches: AtomicBool,
    /// False if a newer program has changed the schema so that this one may only read it.
    may_write: AtomicBool,
    /// The latest time named by a call, in microseconds.
    latest: AtomicI64,
    /// The time by which the clock of the last request for work was ahead of the database, in microseconds.
    ahead: AtomicI64,
    notices: mpsc::UnboundedSender<Notice>,
    /// The shortest lease time of the nodes of this process, in microseconds.
    shortest_lease: AtomicU64,
    /// The places of the nodes of this process, as of their last requests for work. A std mutex, held for a few instructions.
    places: Mutex<BTreeMap<Epoch, Places>>,
    /// The last removal of the ids of old requests. A std mutex, held for a few instructions.
    expired: Mutex<Option<Instant>>,
}

/// A signal to the other processes.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    pub(crate) work: Work,
    /// Instances that have changed.
    pub(crate) changed: Vec<InstanceId>,
}

/// The latest time before any call has named one.
const NONE: i64 = i64::MIN;
/// The time after which a write is no longer carried out: the runtime rechecks an instance for half a minute after a
/// request without an answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(25);
/// The time that each renewal has at least.
const SHORTEST_RENEWAL: Duration = Duration::from_millis(250);
/// The time between two removals of the ids of old requests.
const EXPIRY_PERIOD: Duration = Duration::from_secs(60);

impl State {
    pub(crate) fn new(database: Database, patience: Duration) -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let (notices, sent) = mpsc::unbounded_channel();
        let state = Self {
            within: Within::new(&database.schema, &channel_of(&database.schema)),
            transactions: Transactions::default(),
            sessions: Sessions::new(&database.schema),
            database,
            patience,
            clock: DatabaseClock::new(),
            wakeups: Wakeups::default(),
            listener: NodeId::new().0,
            hears: AtomicBool::new(false),
            polls_watches: AtomicBool::new(false),
            code: KnownCode::default(),
            looks: Looks::default(),
            may_write: AtomicBool::new(true),
            latest: AtomicI64::new(NONE),
            ahead: AtomicI64::new(0),
            notices,
            shortest_lease: AtomicU64::new(u64::MAX),
            places: Mutex::default(),
            expired: Mutex::default(),
        };
        (state, sent)
    }

    pub(crate) fn set_may_write(&self, may_write: bool) {
        self.may_write.store(may_write, Ordering::Relaxed);
    }

    /// Fails if this program may only read the schema.
    pub(crate) fn check_may_write(&self, operation: &'static str) -> Result<(), ProviderError> {
        if self.may_write.load(Ordering::Relaxed) { Ok(()) } else { Err(newer(&self.database.schema, operation)) }
    }

    pub(crate) fn set_hears(&self, hears: bool) {
        self.hears.store(hears, Ordering::Relaxed);
    }

    /// Returns true if this process can be notified of the changes of instances: its notifications arrive, and its role may
    /// write the watches.
    pub(crate) fn is_notified(&self) -> bool {
        self.hears.load(Ordering::Relaxed) && !self.polls_watches.load(Ordering::Relaxed)
    }

    /// Polls from now on, since the role of this process may not watch instances. Logs it once.
    pub(crate) fn watch_was_refused(&self) {
        if !self.polls_watches.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                schema = self.database.schema,
                "the role of this process may not write the table `watches`: it notices the ends of instances that other \
                 processes run only by a poll each 30 seconds"
            );
        }
    }

    /// Observes a time named by a call.
    pub(crate) fn saw(&self, time: Timestamp) {
        self.latest.fetch_max(time.as_micros(), Ordering::Relaxed);
    }

    /// Observes the time of a request for work, whose node may have a clock of its own.
    pub(crate) fn saw_request(&self, now: Timestamp) {
        self.saw(now);
        let ahead = now.as_micros().saturating_sub(self.clock.now().as_micros());
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// Returns the time up to which items may be due for the nodes of this process, in microseconds.
    pub(crate) fn due(&self) -> i64 {
        self.clock.now().as_micros().saturating_add(self.ahead.load(Ordering::Relaxed).max(0))
    }

    /// Returns the latest time named by a call, if any.
    pub(crate) fn named(&self) -> Option<Timestamp> {
        Some(self.latest.load(Ordering::Relaxed)).filter(|latest| *latest != NONE).map(Timestamp::from_micros)
    }

    /// Returns the latest time named by a call; before the first one, the time of the database. Calls usually name the
    /// time of the database, but a user may set another clock.
    pub(crate) fn latest(&self) -> Timestamp {
        self.named().unwrap_or_else(|| self.clock.now())
    }

    /// Returns the time of the database, in microseconds, after which a batch must no longer be written.
    pub(crate) fn deadline(&self, queued: Option<Instant>) -> i64 {
        let left = DEADLINE.saturating_sub(queued.map(|queued| queued.elapsed()).unwrap_or_default());
        (self.clock.now() + left).as_micros()
    }

    /// Observes the lease time of a node of this process.
    pub(crate) fn observe_lease_time(&self, lease_time: Duration) {
        let micros = u64::try_from(lease_time.as_micros()).unwrap_or(u64::MAX);
        self.shortest_lease.fetch_min(micros, Ordering::Relaxed);
    }

    /// Returns the longest time of a renewal: a quarter of the shortest lease time, so that another one follows in time.
    pub(crate) fn renewal_limit(&self) -> Duration {
        let quarter = Duration::from_micros(self.shortest_lease.load(Ordering::Relaxed)) / 4;
        quarter.clamp(SHORTEST_RENEWAL, LIMIT)
    }

    /// Observes the free places of a node of this process.
    pub(crate) fn observe_places(&self, node: Epoch, places: Places) {
        let own = self.sessions.nodes();
        let mut observed = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        observed.retain(|node, _| own.contains(node));
        observed.insert(node, places);
    }

    /// Returns the free places of a node of this process, if it has requested work.
    pub(crate) fn places(&self, node: Epoch) -> Option<Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }

    /// Returns true once per minute.
    pub(crate) fn is_time_to_expire(&self) -> bool {
        let mut expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = expired.is_none_or(|at| at.elapsed() > EXPIRY_PERIOD);
        if is_time {
            *expired = Some(Instant::now());
        }
        is_time
    }

    /// A transaction of the program was committed.
    pub(crate) fn transaction_was_committed(&self) {
        self.within.wake();
        self.signal_work(Work::for_all());
    }

    /// Signals work.
    pub(crate) fn signal_work(&self, work: Work) {
        self.signal(Signals::default(), work);
    }

    /// Sends the signals of a transaction that was committed, within this process and to the others. [`Signals::work`] concerns
    /// all nodes.
    pub(crate) fn signal(&self, mut signals: Signals, mut work: Work) {
        work.for_all |= signals.work;
        if signals.is_empty() && work.is_empty() {
            return;
        }
        signals.work = work.concerns(&self.sessions.nodes());
        let notice = Notice { work, changed: signals.instances().cloned().collect() };
        self.wakeups.tell(signals);
        // The notifier ends with the thread of the provider.
        let _ = self.notices.send(notice);
    }
}
