//! Starts that fail: they leave no file, no thread and no membership.

use std::path::Path;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{NodeInfo, NodeReport, Provider};
use duroxide::registry::Registry;
use duroxide::runtime::RuntimeOptions;
use duroxide::sqlite::{SqliteOptions, SqliteProvider};

use crate::child::Process;
use crate::store::{Store, node};

/// In a process of its own, so that the threads of other tests are not counted.
#[test]
fn start_that_fails_leaves_nothing() {
    let store = Store::new();
    let mut child = Process::spawn("fail to start", store.path());
    child.go();
    child.expect("done");
}

/// Returns the files in a folder, by name and length, and the bytes of their headers that show the journal mode.
fn files(folder: &Path) -> Vec<(String, u64, Vec<u8>)> {
    let files = std::fs::read_dir(folder).expect("folder").map(|file| file.expect("file"));
    let mut files: Vec<_> = files
        .map(|file| {
            let content = std::fs::read(file.path()).unwrap_or_default();
            let length = file.metadata().expect("metadata").len();
            let name = file.file_name().to_string_lossy().into_owned();
            (name, length, content.get(18..20).unwrap_or_default().to_vec())
        })
        .collect();
    files.sort();
    files
}

/// Returns the number of threads of this library.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("duroxide")).count()
}

fn builder() -> duroxide::runtime::RuntimeBuilder {
    Runtime::builder().registry(Registry::empty())
}

/// The task of the child process.
pub(crate) async fn fail(database: &Path) {
    let folder = database.parent().expect("folder");
    let brief = SqliteOptions::new().busy_timeout(Duration::from_millis(10));
    let (text, foreign, newer) = (folder.join("text"), folder.join("foreign.db"), folder.join("newer.db"));
    std::fs::write(&text, "a file of another kind, and longer than the header of a database").expect("write");
    let other = rusqlite::Connection::open(&foreign).expect("open");
    other.execute_batch("CREATE TABLE duroxide_messages (mine TEXT)").expect("create");
    drop(other);
    drop(SqliteProvider::open(&newer).expect("open"));
    rusqlite::Connection::open(&newer)
        .and_then(|newer| newer.execute("UPDATE duroxide_schema SET version = 999", []))
        .expect("update");
    let zero = RuntimeOptions::new().lease_time(Duration::ZERO);
    let starts = [
        ("wrong option", builder().sqlite(database).options(zero)),
        ("wrong tag", builder().sqlite(database).tags([""])),
        ("wrong size", builder().sqlite_with(database, SqliteOptions::new().max_bytes(1))),
        ("registry", builder().sqlite(database).expect_crate("not_linked")),
        ("missing folder", builder().sqlite(folder.join("none/a.db"))),
        ("folder", builder().sqlite(folder)),
        ("other kind", builder().sqlite(&text)),
        ("clash", builder().sqlite(&foreign)),
        ("newer schema", builder().sqlite(&newer)),
    ];
    let before = files(folder);
    for (name, start) in starts {
        start.start().await.map(drop).expect_err(name);
        assert_eq!((files(folder), threads()), (before.clone(), 0), "{name}");
    }
    tokio::time::pause();
    builder().sqlite(database).start().await.map(drop).expect_err("paused clock");
    tokio::time::resume();
    assert_eq!((files(folder), threads()), (before.clone(), 0), "paused clock");

    // The join fails, or is dropped, since another program has locked the database. A node that is a member stays one.
    let shared = SqliteProvider::open_with(database, brief.clone()).expect("open");
    let member = NodeInfo { lease_time: Duration::from_secs(60), ..node() };
    let lease = shared.join(&member).await.expect("join");
    let lock = rusqlite::Connection::open(database).expect("open");
    lock.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let (before, running) = (files(folder), threads());
    builder().sqlite_with(database, brief).start().await.map(drop).expect_err("locked");
    builder().provider(shared.clone()).start().await.map(drop).expect_err("locked");
    let dropped = builder().provider(shared.clone()).start();
    tokio::time::timeout(Duration::ZERO, dropped).await.map(drop).expect_err("the start is dropped");
    shared.join(&member).await.map(drop).expect_err("locked");
    let names = |files: Vec<(String, u64, Vec<u8>)>| files.into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!((names(files(folder)), threads()), (names(before), running), "locked");
    lock.execute_batch("ROLLBACK").expect("unlock");
    shared.renew(&lease, &NodeReport::default()).await.expect("renew");
    shared.leave(&lease).await.expect("leave");
    drop((shared, lock));
    assert_eq!(threads(), 0);
}
