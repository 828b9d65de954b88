//! The store of the tests: that in memory, or the one that `DUROXIDE_TEST_PROVIDER` names, `sqlite` or `postgres`. Each test
//! has a store of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::provider::MemoryProvider;
use duroxide::sqlite::{Durability, SqliteOptions, SqliteProvider};
use duroxide::testing::TestRuntimeBuilder;
use support::schema::Schema;
use support::signalling;

/// Keeps the state of a test in the chosen store.
pub(crate) fn chosen(builder: TestRuntimeBuilder) -> TestRuntimeBuilder {
    match std::env::var("DUROXIDE_TEST_PROVIDER").as_deref() {
        Err(_) | Ok("memory") => memory(builder, &MemoryProvider::new()),
        Ok("sqlite") => sqlite(builder),
        Ok("postgres") => postgres(builder),
        Ok(other) => panic!("there is no provider {other}"),
    }
}

/// Keeps the state of a test in memory, and signals its writes.
pub(crate) fn memory(builder: TestRuntimeBuilder, provider: &MemoryProvider) -> TestRuntimeBuilder {
    let memory = provider.clone();
    builder.other_provider(Arc::new(signalling(provider.clone())), move |epoch| memory.kill(epoch))
}

fn sqlite(builder: TestRuntimeBuilder) -> TestRuntimeBuilder {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    let options = SqliteOptions::new().durability(Durability::Relaxed);
    let provider = SqliteProvider::open_with(file, options).unwrap();
    builder.other_provider(Arc::new(signalling(provider)), move |epoch| {
        // The provider lives on, so its lock is not free. Dropping the runtime ends the membership.
        let _ = (&folder, epoch);
    })
}

fn postgres(builder: TestRuntimeBuilder) -> TestRuntimeBuilder {
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let Some(url) = support::postgres::server() else { return memory(builder, &MemoryProvider::new()) };
    let schema = Schema::new(url, &format!("e2e_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed)));
    let provider = schema.connect();
    builder.other_provider(Arc::new(signalling(provider)), move |epoch| {
        // As if the lease and the time of grace had passed without a renewal.
        let expire = "UPDATE nodes SET expires_at = 'epoch', suspected_at = 'epoch' WHERE epoch";
        schema.execute(&format!("{expire} = {epoch}"));
    })
}
