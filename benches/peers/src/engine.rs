//! What the workloads need of an engine.

use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::ledger::Ledger;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// What the engine is set to by itself.
    Default,
    /// Power loss.
    Full,
}

/// What an instance does. The same as the orchestrations of the load tool.
pub(crate) enum Job {
    /// So many activities, one after another.
    Steps(u64),
    /// So many activities side by side.
    Fan(u64),
    /// Sleeps so many milliseconds.
    Nap(u64),
    /// Waits for one event.
    Waits,
    /// So many children side by side, each with one activity.
    Family(u64),
    /// A text through one activity and back.
    Carry(String),
    /// So many activities, then a wait for one event.
    Remembers(u64),
    /// So many activities with an effect, one after another.
    Notes { instance: u64, steps: u64 },
}

/// An engine on a SQLite file.
pub(crate) trait Engine: Sized {
    /// A started instance.
    type Handle;

    /// Opens the file in this folder, starts, and takes up what an earlier process has left.
    fn open(
        folder: &Path,
        level: Level,
        concurrency: Option<usize>,
        ledger: Ledger,
    ) -> impl Future<Output = Result<Self>>;

    /// Starts an instance: from then on it runs to its end.
    fn start(&self, id: &str, job: Job) -> impl Future<Output = Result<Self::Handle>>;

    /// Another process's instance.
    fn handle(&self, id: &str) -> impl Future<Output = Result<Self::Handle>>;

    /// Waits for the end.
    fn result(&self, handle: &Self::Handle) -> impl Future<Output = Result<()>>;

    /// Sends the event that [`Job::Waits`] waits for.
    fn raise(&self, id: &str) -> impl Future<Output = Result<()>>;

    /// Whether a [`Job::Waits`] can be sent its event: an engine may lose those that come too early.
    fn waits(&self, id: &str) -> impl Future<Output = Result<bool>>;

    /// When a finished [`Job::Nap`] was to wake: since the epoch.
    fn due(&self, id: &str) -> impl Future<Output = Result<Duration>>;

    /// How many outcomes of activities are recorded.
    fn outcomes(&self, id: &str) -> impl Future<Output = Result<u64>>;

    /// Stops.
    fn shutdown(self) -> impl Future<Output = Result<()>>;
}
