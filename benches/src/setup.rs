//! Where the workloads run: a provider and a runtime on it.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use duroxide::provider::{MemoryProvider, Provider};
use duroxide::sqlite::{Durability, SqliteProvider};
use duroxide::{Runtime, RuntimeOptions};

/// Where state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// In memory.
    Memory,
    /// In a SQLite file.
    Sqlite,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Power loss.
    Full,
    /// A crash of the process.
    Relaxed,
}

/// A provider, and how to count what it does.
#[derive(Clone)]
pub enum Store {
    /// In memory.
    Memory(MemoryProvider),
    /// In a SQLite file.
    Sqlite(Arc<SqliteProvider>),
}

impl Store {
    /// Opens one; SQLite keeps its file in the folder.
    pub fn open(kind: Kind, level: Level, folder: &Path) -> duroxide::Result<Self> {
        Ok(match kind {
            Kind::Memory => Self::Memory(MemoryProvider::new()),
            Kind::Sqlite => {
                let durability = match level {
                    Level::Full => Durability::Full,
                    Level::Relaxed => Durability::Relaxed,
                };
                let options = duroxide::sqlite::SqliteOptions::new().durability(durability);
                Self::Sqlite(Arc::new(SqliteProvider::open_with(folder.join("load.db"), &options)?))
            }
        })
    }

    /// The provider.
    pub fn provider(&self) -> Arc<dyn Provider> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Sqlite(sqlite) => sqlite.clone(),
        }
    }

    /// How many write transactions it has made.
    pub fn write_transactions(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Sqlite(sqlite) => sqlite.stats().write_transactions,
        }
    }

    /// Starts a runtime on it.
    pub async fn runtime(&self, options: RuntimeOptions) -> duroxide::Result<Runtime> {
        Ok(Runtime::builder().shared_provider(self.provider()).options(options).start().await?)
    }
}
