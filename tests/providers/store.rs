//! A database in its own folder, and the steps that many tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duroxide::id::NodeId;
use duroxide::provider::*;
use duroxide::sqlite::{SqliteOptions, SqliteProvider};
use duroxide::{InstanceId, Payload, Timestamp};
use semver::Version;

pub(crate) struct Store {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Store {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        Self { path: folder.path().join("store.db"), _folder: folder }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn open(&self) -> SqliteProvider {
        SqliteProvider::open(&self.path).expect("open")
    }

    pub(crate) fn open_with(&self, options: SqliteOptions) -> SqliteProvider {
        SqliteProvider::open_with(&self.path, options).expect("open")
    }

    /// Opens a connection that does not go through the provider.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.path).expect("open")
    }
}

pub(crate) fn node() -> NodeInfo {
    NodeInfo {
        id: NodeId::new(),
        name: "test".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers {
            orchestrations: vec![("flow".to_owned(), Version::new(1, 0, 0))],
            activities: Vec::new(),
            tags: None,
        },
        lease_time: Duration::from_secs(3600),
        details: Default::default(),
    }
}

pub(crate) fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a good id")
}

pub(crate) fn message(payload: Payload) -> MessageRow {
    MessageRow { payload, ..MessageRow::new("{}") }
}

pub(crate) fn start(name: &str, lease: Option<Lease>) -> Submission {
    let new = NewInstance { eager: lease.is_some(), ..NewInstance::new(id(name), "flow", message(Payload::NULL)) };
    let time = Timestamp::from_micros(1);
    Submission::Start(StartRequest { new, if_exists: IfExists::Error, lease, time, resent: false })
}

pub(crate) fn send(name: &str, payload: Payload) -> Submission {
    let (to, time) = (id(name), Timestamp::from_micros(2));
    Submission::Send(SendRequest { to, message: message(payload), lease: None, time, resent: false })
}

pub(crate) async fn submit(provider: &SqliteProvider, submission: Submission) -> Result<Submitted, SubmitError> {
    provider.submit(vec![submission]).await.expect("submit").remove(0)
}

/// Returns true if the lease holds.
pub(crate) async fn holds(provider: &SqliteProvider, lease: &Lease) -> bool {
    matches!(provider.renew(lease, &NodeReport::default()).await.expect("renew"), Renewal::Held { .. })
}

pub(crate) fn want() -> Want {
    Want {
        orchestrations: Arc::new([("flow".to_owned(), Version::new(1, 0, 0))]),
        instances: 1000,
        ..Want::new(Timestamp::from_micros(1_000_000))
    }
}
