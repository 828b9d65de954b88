//! The setup of the workloads: a provider and a runtime on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use duroxide::provider::{MemoryProvider, Provider};
use duroxide::sqlite::{Durability, Moment, SqliteOptions, SqliteProvider};
use duroxide::{Runtime, RuntimeBuilder};

/// The kind of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// In memory.
    Memory,
    /// In a SQLite file.
    Sqlite,
    /// In a PostgreSQL database.
    Postgres,
}

/// The durability of an acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// It survives power loss.
    Full,
    /// It survives a crash of the process.
    Relaxed,
}

/// A provider whose write transactions are counted.
#[derive(Clone)]
pub enum Store {
    /// In memory.
    Memory(MemoryProvider),
    /// In a SQLite file.
    Sqlite(Arc<SqliteProvider>),
}

impl Store {
    /// Opens a provider. SQLite keeps its file in the folder, and delays each of its transactions by `flush_delay`.
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

    /// Returns the number of its write transactions.
    pub fn write_transactions(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Sqlite(sqlite) => sqlite.stats().write_transactions,
        }
    }

    /// Returns the options of a runtime on it.
    pub fn builder(&self) -> RuntimeBuilder {
        Runtime::builder().shared_provider(self.provider())
    }
}
