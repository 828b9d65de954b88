//! Processes that share one schema of a PostgreSQL database.

use std::sync::Arc;

use duroxide::provider::conformance::Subject;
use duroxide::provider::{Lease, Provider};
use duroxide_postgres::{PostgresOptions, PostgresProvider};

/// A schema, empty at first. Each process opens it itself.
pub(crate) struct Postgres {
    url: String,
    schema: String,
}

impl Postgres {
    pub(crate) fn new(url: &str, schema: &str) -> Self {
        let schema = format!("{schema}_{}", std::process::id());
        let create = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
        execute(url, create);
        Self { url: url.to_owned(), schema }
    }

    pub(crate) fn connect(&self) -> PostgresProvider {
        let options = PostgresOptions::new(self.url.as_str()).schema(self.schema.as_str());
        apart(async move || PostgresProvider::connect_with(options).await.expect("connect"))
    }

    /// Runs statements on the database directly.
    pub(crate) fn execute(&self, sql: &str) {
        execute(&self.url, format!("SET search_path TO {}; {sql}", self.schema));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        execute(&self.url, format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}

impl Subject for Postgres {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(self.connect())
    }

    fn kill(&self, provider: Arc<dyn Provider>, lease: Lease) {
        assert_eq!(Arc::strong_count(&provider), 1, "the provider of the process is still in use");
        drop(provider);
        // As if the lease and the time of grace had passed without a renewal.
        let expire = "UPDATE nodes SET expires_at = 'epoch', suspected_at = 'epoch' WHERE epoch";
        self.execute(&format!("{expire} = {}", lease.epoch));
    }
}

fn execute(url: &str, sql: String) {
    let url = url.to_owned();
    apart(async move || {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
        tokio::select! {
            done = client.batch_execute(&sql) => done.expect("execute"),
            _ = connection => panic!("the connection is lost"),
        }
    });
}

/// Runs a future on a runtime of its own: a [`Subject`] is synchronous, and is called within a runtime.
fn apart<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(work())
    });
    thread.join().expect("the thread does not panic")
}
