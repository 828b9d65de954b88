//! The state that the threads of one provider share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, AtomicUsize, Ordering};

use super::notice::Notice;
use super::sql::Counts;
use crate::clock::Timestamp;
use crate::provider::Wakeups;

pub(super) struct Shared {
    /// The absolute path of the database file.
    pub(super) path: PathBuf,
    pub(super) wakeups: Wakeups,
    pub(super) write_transactions: AtomicU64,
    pub(super) counts: Arc<Counts>,
    /// The number of nodes that joined here and have not left.
    pub(super) nodes: AtomicUsize,
    /// The latest time named by a call; `i64::MIN` before the first.
    latest: AtomicI64,
    /// The port of the listener; zero if there is none.
    port: AtomicU16,
}

impl Shared {
    pub(super) fn new(path: PathBuf, counts: Arc<Counts>) -> Self {
        Self {
            path,
            wakeups: Wakeups::default(),
            write_transactions: AtomicU64::new(0),
            counts,
            nodes: AtomicUsize::new(0),
            latest: AtomicI64::new(i64::MIN),
            port: AtomicU16::new(0),
        }
    }

    pub(super) fn latest_time(&self) -> Option<Timestamp> {
        let latest = self.latest.load(Ordering::Relaxed);
        (latest != i64::MIN).then(|| Timestamp::from_micros(latest))
    }

    pub(super) fn observe_time(&self, time: Timestamp) {
        self.latest.fetch_max(time.as_micros(), Ordering::Relaxed);
    }

    pub(super) fn port(&self) -> Option<u16> {
        Some(self.port.load(Ordering::Relaxed)).filter(|port| *port != 0)
    }

    pub(super) fn set_port(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Signals the waits of this process that a notice concerns.
    pub(super) fn notice(&self, notice: &Notice) {
        if notice.work {
            self.wakeups.work();
        }
        self.wakeups.changed_where(|instance| notice.concerns(instance));
    }

    /// Returns true if a node or a client of this process waits for writes of other processes.
    pub(super) fn needs_polling(&self) -> bool {
        self.nodes.load(Ordering::Relaxed) > 0 || self.wakeups.is_watched()
    }
}
