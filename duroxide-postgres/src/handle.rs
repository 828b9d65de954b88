//! The thread of a provider, and the lanes to it.
//!
//! One thread with a runtime of its own owns all connections, so that busy user code delays no renewal, and a dropped call
//! leaves no transaction half done.

use std::sync::Arc;
use std::time::Instant;

use duroxide::provider::ProviderError;
use tokio::sync::oneshot;

use crate::batch;
use crate::connect::{Database, LIMIT, Use, step};
use crate::fault::Fault;
use crate::lane::Lane;
use crate::listen;
use crate::members::NOW;
use crate::notify;
use crate::options::PostgresOptions;
use crate::outbox;
use crate::schema;
use crate::state::State;

/// The longest time of a list or a removal. It has a time limit of its own between its statements.
const ADMIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

pub(crate) struct Handle {
    pub(crate) state: Arc<State>,
    pub(crate) lanes: Lanes,
    /// Dropped with the handle, which ends the thread.
    _open: oneshot::Sender<()>,
}

/// The queues of the thread.
pub(crate) struct Lanes {
    /// Commits and submissions.
    pub(crate) batches: batch::Lanes,
    /// Requests for work.
    pub(crate) ask: Lane,
    /// Histories and single instances.
    pub(crate) read: Arc<Lane>,
    /// Renewals, which must not wait behind anything else.
    pub(crate) renew: Arc<Lane>,
    /// Joins, ends of memberships, and take-overs, which may take long.
    pub(crate) members: Arc<Lane>,
    /// Lists and removals.
    pub(crate) admin: Lane,
}

impl Handle {
    /// Migrates the schema, and starts the thread.
    pub(crate) async fn open(options: PostgresOptions) -> Result<Self, ProviderError> {
        let database = Database::new(&options)?;
        let (open, closed) = oneshot::channel();
        let (state, lanes) = on_thread(async move |opened| run(database, options, opened, closed).await).await?;
        Ok(Self { state, lanes, _open: open })
    }
}

/// Migrates the schema, and does nothing else.
pub(crate) async fn migrate(options: PostgresOptions) -> Result<(), ProviderError> {
    let database = Database::new(&options)?;
    let migrate = async move |done: oneshot::Sender<_>| drop(done.send(prepare(&database).await.map(drop)));
    on_thread(migrate).await
}

/// Runs a future on a thread with a runtime of its own, and returns its first answer.
async fn on_thread<T: Send + 'static>(
    run: impl AsyncFnOnce(oneshot::Sender<Result<T, ProviderError>>) + Send + 'static,
) -> Result<T, ProviderError> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("duroxide-postgres".to_owned());
    let failed = |error| ProviderError::retryable("start the thread of the provider", error);
    let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(answer)),
        Err(error) => drop(answer.send(Err(failed(error)))),
    };
    thread.spawn(run).map_err(failed)?;
    let ended = |_| ProviderError::retryable("open the database", "the thread of the provider has ended");
    answered.await.map_err(ended)?
}

type Opened = Result<(Arc<State>, Lanes), ProviderError>;

/// Opens the database, and runs the lanes until the handle is dropped.
async fn run(
    database: Database,
    options: PostgresOptions,
    opened: oneshot::Sender<Opened>,
    closed: oneshot::Receiver<()>,
) {
    let Prepared { time, asked, may_write } = match prepare(&database).await {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    let (state, notices) = State::new(database, options.patience);
    state.clock.set(time, asked);
    state.set_may_write(may_write);
    let state = Arc::new(state);
    let lane = |purpose, limit| Lane::spawn(state.clone(), purpose, limit);
    let (batches, tasks) = batch::spawn(&state);
    let lanes = Lanes {
        batches,
        ask: lane(Use::Hot, LIMIT),
        read: Arc::new(lane(Use::Reading, LIMIT)),
        renew: Arc::new(lane(Use::Planned, LIMIT)),
        members: Arc::new(lane(Use::Planned, LIMIT)),
        admin: lane(Use::Planned, ADMIN_LIMIT),
    };
    let from = state.listener;
    tokio::spawn(notify::send(state.clone(), lanes.read.clone(), notices, from));
    let listening =
        listen::Lanes { read: lanes.read.clone(), renew: lanes.renew.clone(), members: lanes.members.clone() };
    tokio::spawn(listen::run(state.clone(), listening, from));
    tokio::spawn(outbox::run(state.clone(), lanes.read.clone()));
    if opened.send(Ok((state, lanes))).is_err() {
        return;
    }
    // An error means that the handle was dropped.
    let _ = closed.await;
    // Batches whose callers are gone are carried out as a whole. All other tasks end with the runtime.
    for task in tasks {
        let _ = task.await;
    }
}

/// The time of the database, and when it was asked for.
struct Prepared {
    time: i64,
    asked: Instant,
    /// See [`State::may_write`].
    may_write: bool,
}

/// Migrates the schema.
async fn prepare(database: &Database) -> Result<Prepared, ProviderError> {
    let connection = database.open_first(Use::Planned).await?;
    let may_write = schema::migrate(&connection, database).await?;
    let asked = Instant::now();
    let read = async {
        let rows = connection.query(step!(NOW)).await?;
        let row = rows.first().ok_or_else(|| Fault::Unreadable("there is no time".to_owned()))?;
        Ok::<i64, Fault>(row.try_get("now")?)
    };
    let time = read.await.map_err(|fault| fault.of("read the clock of the database"))?;
    Ok(Prepared { time, asked, may_write })
}
