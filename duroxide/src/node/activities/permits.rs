//! ActivityPermits for activities: the limits of the activities that run on this node at once.
//!
//! An activity keeps its permit until its outcome is on its way to the storage. A later activity is claimed, and stored,
//! after that outcome. If the process dies, the activities to be run again are therefore no more than the permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Async (0) or blocking (1); each kind has its own limit.
pub(in crate::node) type Kind = usize;

/// The permits that are taken, of each kind.
#[derive(Clone, Default)]
pub(in crate::node) struct ActivityPermits(Arc<Taken>);

#[derive(Default)]
struct Taken {
    taken: [AtomicUsize; 2],
    /// True if a permit has become free since the last check.
    released: AtomicBool,
}

/// The permit of an activity that has ended and whose outcome is not on its way yet. Freed on drop.
#[derive(Debug)]
pub(in crate::node) struct Permit {
    kind: Kind,
    permits: ActivityPermits,
}

impl ActivityPermits {
    pub(in crate::node) fn taken(&self, kind: Kind) -> usize {
        self.0.taken[kind].load(Ordering::Relaxed)
    }

    pub(in crate::node) fn take(&self, kind: Kind) {
        self.0.taken[kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::node) fn free(&self, kind: Kind) {
        self.0.taken[kind].fetch_sub(1, Ordering::Relaxed);
        self.0.released.store(true, Ordering::Relaxed);
    }

    /// Returns a guard that frees a taken permit on drop.
    pub(in crate::node) fn guard(&self, kind: Kind) -> Permit {
        Permit { kind, permits: self.clone() }
    }

    /// Returns true if a permit has become free since the last call.
    pub(in crate::node) fn have_become_free(&self) -> bool {
        self.0.released.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.free(self.kind);
    }
}

impl std::fmt::Debug for ActivityPermits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries([self.taken(0), self.taken(1)]).finish()
    }
}
