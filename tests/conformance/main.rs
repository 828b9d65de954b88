//! Runs the cases of the contract on all providers, and random programs on several at once.

use std::path::PathBuf;
use std::sync::Arc;

use duroxide::provider::conformance::{Subject, admin_cases, cases};
use duroxide::provider::{Lease, MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;

mod differential;
mod postgres;
mod renumbered;

/// Processes that share one memory.
struct Memory(MemoryProvider);

impl Subject for Memory {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(self.0.clone())
    }

    fn kill(&self, _: Arc<dyn Provider>, lease: Lease) {
        self.0.kill(lease.epoch);
    }
}

/// Processes that share one file: each opens the file itself, and dies by closing it without leaving.
struct Sqlite(PathBuf);

impl Subject for Sqlite {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(SqliteProvider::open(&self.0).expect("open"))
    }

    fn kill(&self, provider: Arc<dyn Provider>, _: Lease) {
        assert_eq!(Arc::strong_count(&provider), 1, "the provider of the process is still in use");
    }
}

/// Runs all cases, and panics with the names of those that fail.
fn run(subject: impl Fn() -> Arc<dyn Subject>) {
    let only = std::env::var("CASE").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let mut failed = Vec::new();
    for case in cases().into_iter().chain(admin_cases()).filter(|case| case.name.contains(&only)) {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on((case.run)(subject())));
        if std::panic::catch_unwind(run).is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "these cases fail: {failed:#?}");
}

#[test]
fn memory_keeps_the_contract() {
    run(|| Arc::new(Memory(MemoryProvider::new())));
}

#[test]
fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("folder");
    let count = std::cell::Cell::new(0);
    run(|| {
        count.set(count.get() + 1);
        Arc::new(Sqlite(folder.path().join(format!("{}.db", count.get()))))
    });
}

#[test]
fn postgres_keeps_the_contract() {
    let Some(url) = support::postgres::server() else { return };
    let count = std::cell::Cell::new(0);
    run(|| {
        count.set(count.get() + 1);
        Arc::new(postgres::Postgres(support::schema::Schema::new(url, &format!("case_{}", count.get()))))
    });
}

#[test]
fn no_case_is_listed_twice() {
    let mut names: Vec<_> = cases().iter().chain(&admin_cases()).map(|case| case.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(all >= 130, "{all} cases");
}
