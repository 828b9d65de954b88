//! Runs the cases of the contract on all providers, and random programs on several at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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

/// Runs all cases, and panics with the names of those that fail. Several run at once, since a provider waits for its
/// storage. `subject` gets the number of the case.
fn run(at_once: usize, subject: impl Fn(usize) -> Arc<dyn Subject> + Sync) {
    let only = std::env::var("CASE").unwrap_or_default();
    let cases: Vec<_> = cases().into_iter().chain(admin_cases()).filter(|case| case.name.contains(&only)).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { return };
            let run = std::panic::AssertUnwindSafe(|| runtime.block_on((case.run)(subject(number))));
            if std::panic::catch_unwind(run).is_err() {
                eprintln!("the case {} fails", case.name);
                failed.lock().expect("no holder panics").push(case.name);
            }
        }
    };
    std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("no holder panics");
    assert!(failed.is_empty(), "these cases fail: {failed:#?}");
}

#[test]
fn memory_keeps_the_contract() {
    run(1, |_| Arc::new(Memory(MemoryProvider::new())));
}

#[test]
fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("folder");
    run(4, |number| Arc::new(Sqlite(folder.path().join(format!("{number}.db")))));
}

#[test]
fn postgres_keeps_the_contract() {
    let Some(url) = support::postgres::server() else { return };
    run(2, |number| Arc::new(postgres::Postgres(support::schema::Schema::new(url, &format!("case_{number}")))));
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
