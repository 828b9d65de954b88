//! The interface of an engine, as the workloads need it.

use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::ledger::Ledger;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The event that an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The default of the engine.
    Default,
    /// A loss of power.
    Full,
}

/// The work of an instance, equal to the orchestrations of the load tool.
pub(crate) enum Job {
    /// Calls n activities, one after another.
    Steps(u64),
    /// Calls n activities side by side.
    Fan(u64),
    /// Sleeps this number of milliseconds.
    Nap(u64),
    /// Waits for one event.
    Waits,
    /// Calls n children side by side, each with one activity.
    Family(u64),
    /// Passes a text to an activity and back.
    Carry(String),
    /// Calls n activities, then awaits one event.
    StepsThenEvent(u64),
    /// Calls `steps` activities with an effect, one after another.
    Notes { instance: u64, steps: u64 },
}

/// An engine on a SQLite file, or on a PostgreSQL database.
pub(crate) trait Engine: Sized {
    /// A started instance.
    type Handle;

    /// Opens the database at this URL, or else the file in this folder, starts, and continues the instances of an earlier process.
    fn open(
        folder: &Path,
        database: Option<&str>,
        level: Level,
        concurrency: Option<usize>,
        ledger: Ledger,
    ) -> impl Future<Output = Result<Self>>;

    /// Starts an instance durably.
    fn start(&self, id: &str, job: Job) -> impl Future<Output = Result<Self::Handle>>;

    /// Returns the handle of an instance that another process has started.
    fn handle(&self, id: &str) -> impl Future<Output = Result<Self::Handle>>;

    /// Waits for the end of an instance.
    fn result(&self, handle: &Self::Handle) -> impl Future<Output = Result<()>>;

    /// Sends the event that [`Job::Waits`] waits for.
    fn raise(&self, id: &str) -> impl Future<Output = Result<()>>;

    /// Returns true if a [`Job::Waits`] is ready for its event: an engine may lose an event that arrives before.
    fn waits(&self, id: &str) -> impl Future<Output = Result<bool>>;

    /// Returns the time at which a finished [`Job::Nap`] was due to wake, since the epoch.
    fn due(&self, id: &str) -> impl Future<Output = Result<Duration>>;

    /// Returns the number of recorded outcomes of activities.
    fn outcomes(&self, id: &str) -> impl Future<Output = Result<u64>>;

    /// Stops the engine.
    fn shutdown(self) -> impl Future<Output = Result<()>>;
}
