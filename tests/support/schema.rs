//! A schema of a PostgreSQL database, for one test.

use duroxide_postgres::{PostgresOptions, PostgresProvider};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::postgres::is_private;

/// A schema, empty at first, that is dropped with this value. On a private server, it remains until the server ends.
pub struct Schema {
    url: String,
    name: String,
}

impl Schema {
    pub fn new(url: &str, name: &str) -> Self {
        let name = format!("{name}_{}", std::process::id());
        if !is_private() {
            execute(url, format!("DROP SCHEMA IF EXISTS {name} CASCADE"));
        }
        Self { url: url.to_owned(), name }
    }

    /// Returns the name of the schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the options of a provider for this schema.
    pub fn options(&self) -> PostgresOptions {
        self.options_at(&self.url)
    }

    /// Returns the options of a provider that reaches the schema by another URL.
    pub fn options_at(&self, url: &str) -> PostgresOptions {
        PostgresOptions::new(url).schema(self.name.as_str())
    }

    /// Opens the schema as a process of its own would do.
    pub fn connect(&self) -> PostgresProvider {
        let options = self.options();
        apart(async move || PostgresProvider::connect_with(options).await.expect("connect"))
    }

    /// Runs statements on the database directly.
    pub fn execute(&self, sql: &str) {
        execute(&self.url, self.within(sql));
    }

    /// Returns statements that first choose this schema.
    pub fn within(&self, sql: &str) -> String {
        format!("SET search_path TO {}; {sql}", self.name)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A test that fails reports its own failure.
        if !is_private() && !std::thread::panicking() {
            // A provider that has just been dropped may still hold locks, which the server takes for a deadlock.
            let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name);
            while let Err(error) = try_to_execute(&self.url, drop.clone()) {
                assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
            }
        }
    }
}

fn execute(url: &str, sql: String) {
    try_to_execute(url, sql).expect("execute");
}

fn try_to_execute(url: &str, sql: String) -> Result<(), Error> {
    let url = url.to_owned();
    apart(async move || {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
        tokio::select! {
            done = client.batch_execute(&sql) => done,
            _ = connection => panic!("the connection is lost"),
        }
    })
}

/// Runs a future on a runtime of its own, so that it can be awaited by a synchronous function within another one.
fn apart<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(work())
    });
    thread.join().expect("the thread does not panic")
}
