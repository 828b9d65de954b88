//! Several processes on one file.

use std::time::Duration;

use duroxide::Timestamp;
use duroxide::id::{CommitId, NodeId};
use duroxide::provider::{Admin, Filter, InstanceStatus, NodeReport, Page, Provider, Renewal, Submission, Then, Turn};
use futures_util::FutureExt;
use tokio::time::timeout;

use crate::child::Process;
use crate::store::{Store, holds, id, node, start, submit, want};

/// Shorter than the time between polls: a signal within this time came by a notice.
const RUNG: Duration = Duration::from_secs(4);

#[tokio::test]
async fn items_of_a_killed_process_are_taken_over_at_once() {
    let store = Store::new();
    let mut child = Process::spawn("own", store.path());
    child.go();
    child.expect("done");
    let provider = store.open();
    let lease = provider.join(&node()).await.expect("join");
    assert_eq!(provider.nodes().await.expect("nodes")[0].instances, 100);
    assert!(provider.acquire(&lease, want()).await.expect("acquire").instances.is_empty(), "its owner lives");
    child.kill();
    assert!(holds(&provider, &lease).await);
    let acquired = provider.acquire(&lease, want()).await.expect("acquire").instances;
    assert_eq!((acquired.len(), acquired[0].crashes), (100, 1));
    assert_eq!(provider.nodes().await.expect("nodes").len(), 1);
    let files = std::fs::read_dir(store.path().parent().expect("folder")).expect("folder");
    let locks = files.filter(|file| file.as_ref().expect("file").file_name().to_string_lossy().contains("-node-"));
    assert_eq!(locks.count(), 1, "the lock file of the dead node was removed");
}

#[tokio::test]
async fn the_lock_file_of_a_node_that_never_joined_is_removed() {
    let store = Store::new();
    let file = |node: NodeId| {
        let path = format!("{}-node-{node}", store.path().display());
        (std::fs::File::create(&path).expect("create"), path)
    };
    let (dead, dead_path) = file(NodeId::new());
    drop(dead);
    let (joining, joining_path) = file(NodeId::new());
    joining.lock().expect("lock");
    let provider = store.open();
    provider.join(&node()).await.expect("join");
    assert!(!std::fs::exists(dead_path).expect("look"));
    assert!(std::fs::exists(joining_path).expect("look"), "its node is alive");
}

#[cfg(unix)]
#[tokio::test]
async fn lock_file_beside_a_name_that_is_not_utf8_is_removed() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("folder");
    let database = folder.path().join(std::ffi::OsStr::from_bytes(b"shop-\xff.db"));
    let mut lock = database.clone().into_os_string();
    lock.push(format!("-node-{}", NodeId::new()));
    std::fs::File::create(&lock).expect("create");
    let provider = duroxide::sqlite::SqliteProvider::open(&database).expect("open");
    provider.join(&node()).await.expect("join");
    assert!(!std::fs::exists(lock).expect("look"), "its node died before it joined");
}

#[tokio::test]
async fn a_restart_takes_over_when_it_joins() {
    let store = Store::new();
    let mut child = Process::spawn("own", store.path());
    child.go();
    child.expect("done");
    child.kill();
    let provider = store.open();
    let lease = provider.join(&node()).await.expect("join");
    assert_eq!(provider.acquire(&lease, want()).await.expect("acquire").instances.len(), 100);
}

#[tokio::test]
async fn work_from_another_process_is_signalled() {
    let store = Store::new();
    let provider = store.open();
    let lease = provider.join(&node()).await.expect("join");
    let mut work = provider.wakeups().subscribe();
    let mut child = Process::spawn("submit", store.path());
    child.go();
    timeout(RUNG, work.changed()).await.expect("signalled in time").expect("alive");
    let acquired = provider.acquire(&lease, want()).await.expect("acquire").instances;
    assert_eq!(acquired[0].execution.instance, id("from-child"));
}

#[tokio::test]
async fn end_in_another_process_is_signalled() {
    let store = Store::new();
    let (client, other) = (store.open(), store.open());
    for name in ["i", "j"] {
        submit(&client, start(name, None)).await.expect("start");
    }
    let (mut ended, mut unchanged) = (client.wakeups().watch(&id("i")), client.wakeups().watch(&id("j")));
    let record = client.watch(&id("i")).await.expect("read").expect("there");
    assert_eq!(record.status, InstanceStatus::Running);
    let end = Turn {
        then: Then::Finish { status: InstanceStatus::Terminated },
        ..Turn::new(record.execution, record.last_event, Timestamp::from_micros(3))
    };
    submit(&other, Submission::Terminate { id: CommitId::new(), turn: Box::new(end) }).await.expect("end");
    timeout(RUNG, ended.changed()).await.expect("signalled in time");
    assert!(unchanged.changed().now_or_never().is_none(), "the wait for another instance reads nothing");
}

#[tokio::test]
async fn lost_notice_is_found_by_the_poll_among_other_notices() {
    let store = Store::new();
    let (client, other) = (store.open(), store.open());
    submit(&client, start("i", None)).await.expect("start");
    let mut ended = client.wakeups().watch(&id("i"));
    let record = client.watch(&id("i")).await.expect("read").expect("there");
    // The other provider no longer knows of the listener, as if it were killed between its commit and its notice.
    let port: u16 =
        store.raw().query_row("DELETE FROM duroxide_listeners RETURNING port", [], |row| row.get(0)).expect("listener");
    let end = Turn {
        then: Then::Finish { status: InstanceStatus::Terminated },
        ..Turn::new(record.execution, record.last_event, Timestamp::from_micros(3))
    };
    submit(&other, Submission::Terminate { id: CommitId::new(), turn: Box::new(end) }).await.expect("end");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let begun = std::time::Instant::now();
    // The listener receives notices that concern no instance, more often than it polls.
    while timeout(Duration::from_millis(50), ended.changed()).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the end is signalled by the poll");
        socket.send_to(&[0], ("127.0.0.1", port)).expect("send");
    }
}

#[tokio::test]
async fn two_nodes_in_one_process_are_two() {
    let store = Store::new();
    let provider = store.open();
    let first = provider.join(&node()).await.expect("join");
    let second = provider.join(&node()).await.expect("join");
    for lease in [first, second, first] {
        assert!(holds(&provider, &lease).await);
    }
    assert_eq!(provider.nodes().await.expect("nodes").len(), 2);
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    let store = Store::new();
    let mut child = Process::spawn("write", store.path());
    child.go();
    child.expect("acknowledged 300 done");
    child.kill();
    let page = Page::new(100_000);
    let found = store.open().list(&Filter::default(), &page).await.expect("list").instances.len();
    assert!(found > 300, "{found} instances");
    let check: String = store.raw().query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
    assert_eq!(check, "ok");
}

/// Removes the lock files, as a tool that cleans folders may.
fn remove_locks(store: &Store) {
    for file in std::fs::read_dir(store.path().parent().expect("folder")).expect("folder") {
        let path = file.expect("file").path();
        if path.to_string_lossy().contains("-node-") {
            std::fs::remove_file(path).expect("remove");
        }
    }
}

#[tokio::test]
async fn a_node_recreates_its_removed_lock_file() {
    let store = Store::new();
    let (provider, other) = (store.open(), store.open());
    let lease = provider.join(&node()).await.expect("join");
    let observer = other.join(&node()).await.expect("join");
    remove_locks(&store);
    for _ in 0..2 {
        assert!(holds(&other, &observer).await);
        assert!(holds(&provider, &lease).await);
    }
    drop(provider);
    other.renew(&observer, &NodeReport::default()).await.expect("renew");
    assert_eq!(other.nodes().await.expect("nodes").len(), 1, "its death is seen by the new file");
}

#[tokio::test]
async fn a_silent_node_without_a_lock_is_dead_after_its_lease_time() {
    let store = Store::new();
    let (provider, other) = (store.open(), store.open());
    let brief = duroxide::provider::NodeInfo { lease_time: Duration::from_millis(50), ..node() };
    let lease = provider.join(&brief).await.expect("join");
    let silence = std::time::Instant::now();
    let observer = other.join(&node()).await.expect("join");
    remove_locks(&store);
    while other.nodes().await.expect("nodes").len() == 2 {
        other.renew(&observer, &NodeReport::default()).await.expect("renew");
        assert!(silence.elapsed() < Duration::from_secs(10), "the death of the node is not detected");
    }
    assert!(silence.elapsed() >= Duration::from_millis(50));
    assert_eq!(provider.renew(&lease, &NodeReport::default()).await.expect("renew"), Renewal::Lost);
}
