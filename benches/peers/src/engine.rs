//! The interface of an engine for the workloads.

use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::ledger::Ledger;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The durability of an acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The default of the engine.
    Default,
    /// It survives power loss.
    Full,
}

/// The work of an instance: the same as the orchestrations of the load tool.
pub(crate) enum Job {
    /// n activities, one after another.
    Steps(u64),
    /// n concurrent activities.
    Fan(u64),
    /// Sleeps n milliseconds.
    Nap(u64),
    /// Waits for one event.
    Waits,
    /// n concurrent children, each with one activity.
    Family(u64),
    /// A text through one activity and back.
    Carry(String),
    /// n activities, then a wait for one event.
    Remembers(u64),
    /// n activities with an effect, one after another.
    Notes { instance: u64, steps: u64 },
}

/// An engine on a SQLite file.
pub(crate) trait Engine: Sized {
    /// A started instance.
    type Handle;

    /// Opens the file in this folder, starts, and recovers the instances of an earlier process.
    fn open(
        folder: &Path,
        level: Level,
        concurrency: Option<usize>,
        ledger: Ledger,
    ) -> impl Future<Output = Result<Self>>;

    /// Starts an instance, which then runs to its end.
    fn start(&self, id: &str, job: Job) -> impl Future<Output = Result<Self::Handle>>;

    /// Returns an instance of another process.
    fn handle(&self, id: &str) -> impl Future<Output = Result<Self::Handle>>;

    /// Waits for the end.
    fn result(&self, handle: &Self::Handle) -> impl Future<Output = Result<()>>;

    /// Sends the event that [`Job::Waits`] waits for.
    fn raise(&self, id: &str) -> impl Future<Output = Result<()>>;

    /// Returns true if a [`Job::Waits`] is ready for its event: an engine may lose events that come too early.
    fn waits(&self, id: &str) -> impl Future<Output = Result<bool>>;

    /// Returns the due time of a finished [`Job::Nap`], since the epoch.
    fn due(&self, id: &str) -> impl Future<Output = Result<Duration>>;

    /// Returns the number of recorded outcomes of activities.
    fn outcomes(&self, id: &str) -> impl Future<Output = Result<u64>>;

    /// Stops.
    fn shutdown(self) -> impl Future<Output = Result<()>>;
}
