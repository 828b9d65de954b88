//! What the threads of one provider share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, AtomicUsize, Ordering};

use super::notice::Notice;
use crate::clock::Timestamp;
use crate::provider::Wakeups;

pub(super) struct Shared {
    /// The database file, absolute.
    pub(super) path: PathBuf,
    pub(super) wakeups: Wakeups,
    pub(super) write_transactions: AtomicU64,
    pub(super) statements: Arc<AtomicU64>,
    /// Nodes that joined here and have not left.
    pub(super) nodes: AtomicUsize,
    /// The latest time that a call named; `i64::MIN` before the first.
    latest: AtomicI64,
    /// Where this provider listens; zero: it does not.
    port: AtomicU16,
}

impl Shared {
    pub(super) fn new(path: PathBuf, statements: Arc<AtomicU64>) -> Self {
        Self {
            path,
            wakeups: Wakeups::default(),
            write_transactions: AtomicU64::new(0),
            statements,
            nodes: AtomicUsize::new(0),
            latest: AtomicI64::new(i64::MIN),
            port: AtomicU16::new(0),
        }
    }

    pub(super) fn latest(&self) -> Option<Timestamp> {
        let latest = self.latest.load(Ordering::Relaxed);
        (latest != i64::MIN).then(|| Timestamp::from_micros(latest))
    }

    pub(super) fn saw(&self, time: Timestamp) {
        self.latest.fetch_max(time.as_micros(), Ordering::Relaxed);
    }

    pub(super) fn port(&self) -> Option<u16> {
        Some(self.port.load(Ordering::Relaxed)).filter(|port| *port != 0)
    }

    pub(super) fn listens_on(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Signals the waits in this process that a notice of another process concerns.
    pub(super) fn notice(&self, notice: &Notice) {
        if notice.work {
            self.wakeups.work();
        }
        self.wakeups.changed_where(|instance| notice.concerns(instance));
    }

    /// Returns true if a node or a client of this process waits for what other processes write.
    pub(super) fn needs_polling(&self) -> bool {
        self.nodes.load(Ordering::Relaxed) > 0 || self.wakeups.is_watched()
    }
}
