//! The provider of the workloads, and the builder of a runtime on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use duroxide::provider::{MemoryProvider, Provider};
use duroxide::sqlite::{Durability, Moment, SqliteOptions, SqliteProvider};
use duroxide::{Runtime, RuntimeBuilder};

/// The kind of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// In memory.
    Memory,
    /// In a SQLite file.
    Sqlite,
    /// In a PostgreSQL database.
    Postgres,
}

/// The event that an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// A loss of power.
    Full,
    /// A crash of the process.
    Relaxed,
}

/// A provider whose write transactions can be counted.
#[derive(Clone)]
pub enum Store {
    /// In memory.
    Memory(MemoryProvider),
    /// In a SQLite file.
    Sqlite(Arc<SqliteProvider>),
}

impl Store {
    /// Opens a provider. SQLite keeps its file in the folder, and each of its commits takes `flush_delay` longer.
    pub fn open(kind: Kind, level: Level, flush_delay: Duration, folder: &Path) -> duroxide::Result<Self> {
        match kind {
            Kind::Memory => Ok(Self::Memory(MemoryProvider::new())),
            Kind::Sqlite => {
                let durability = match level {
                    Level::Full => Durability::Full,
                    Level::Relaxed => Durability::Relaxed,
                };
                let mut options = SqliteOptions::new().durability(durability);
                if !flush_delay.is_zero() {
                    options = options.observer(move |moment| {
                        if moment == Moment::Before("COMMIT") {
                            std::thread::sleep(flush_delay);
                        }
                    });
                }
                Ok(Self::Sqlite(Arc::new(SqliteProvider::open_with(folder.join("load.db"), options)?)))
            }
            Kind::Postgres => {
                let reason = "there is no provider `postgres` yet: choose `sqlite` or `memory`";
                Err(duroxide::Error::new(reason))
            }
        }
    }

    /// Returns the provider.
    pub fn provider(&self) -> Arc<dyn Provider> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Sqlite(sqlite) => sqlite.clone(),
        }
    }

    /// Returns the number of write transactions so far; zero in memory.
    pub fn write_transactions(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Sqlite(sqlite) => sqlite.stats().write_transactions,
        }
    }

    /// Returns the builder of a runtime on this provider.
    pub fn builder(&self) -> RuntimeBuilder {
        Runtime::builder().shared_provider(self.provider())
    }
}
