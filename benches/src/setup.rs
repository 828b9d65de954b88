//! The provider of the workloads, and the builder of a runtime on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use duroxide::provider::{Acquired, Layered, Lease, MemoryProvider, Provider, ProviderError, ProviderLayer, Want};
use duroxide::sqlite::{Durability, Moment, SqliteOptions, SqliteProvider};
use duroxide::{Runtime, RuntimeBuilder};
use duroxide_postgres::{PostgresOptions, PostgresProvider};
use futures_util::future::BoxFuture;

use crate::server::SCHEMA;
use crate::workloads::Options;

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

/// A provider whose requests for work and write transactions are counted.
#[derive(Clone)]
pub struct Store {
    counted: Arc<Layered<Counted>>,
    sqlite: Option<Arc<SqliteProvider>>,
}

struct Counted {
    inner: Arc<dyn Provider>,
    acquires: AtomicU64,
}

impl ProviderLayer for Counted {
    fn inner(&self) -> &dyn Provider {
        &*self.inner
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        self.acquires.fetch_add(1, Ordering::Relaxed);
        self.inner.acquire(lease, want)
    }
}

/// The counts of a provider so far.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// The number of requests for work.
    pub acquires: u64,
    /// The number of write transactions; zero in memory and on PostgreSQL.
    pub write_transactions: u64,
}

impl Store {
    /// Opens a provider. SQLite keeps its file in the folder, and each of its commits takes `flush_delay` longer.
    pub async fn open(options: &Options) -> duroxide::Result<Self> {
        match options.kind {
            Kind::Memory => Ok(Self::new(Arc::new(MemoryProvider::new()), None)),
            Kind::Sqlite => {
                let sqlite = Arc::new(sqlite(options)?);
                Ok(Self::new(sqlite.clone(), Some(sqlite)))
            }
            Kind::Postgres => {
                let options = PostgresOptions::new(&options.database).schema(SCHEMA);
                Ok(Self::new(Arc::new(PostgresProvider::connect_with(options).await?), None))
            }
        }
    }

    fn new(inner: Arc<dyn Provider>, sqlite: Option<Arc<SqliteProvider>>) -> Self {
        Self { counted: Arc::new(Layered(Counted { inner, acquires: AtomicU64::new(0) })), sqlite }
    }

    /// Returns the provider.
    pub fn provider(&self) -> Arc<dyn Provider> {
        self.counted.clone()
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> Counts {
        Counts {
            acquires: self.counted.0.acquires.load(Ordering::Relaxed),
            write_transactions: self.sqlite.as_ref().map_or(0, |sqlite| sqlite.stats().write_transactions),
        }
    }

    /// Returns the builder of a runtime on this provider.
    pub fn builder(&self) -> RuntimeBuilder {
        Runtime::builder().shared_provider(self.provider())
    }
}

fn sqlite(options: &Options) -> duroxide::Result<SqliteProvider> {
    let durability = match options.level {
        Level::Full => Durability::Full,
        Level::Relaxed => Durability::Relaxed,
    };
    let flush_delay = options.flush_delay;
    let mut sqlite = SqliteOptions::new().durability(durability);
    if !flush_delay.is_zero() {
        sqlite = sqlite.observer(move |moment| {
            if moment == Moment::Before("COMMIT") {
                std::thread::sleep(flush_delay);
            }
        });
    }
    Ok(SqliteProvider::open_with(options.folder.join("load.db"), sqlite)?)
}
