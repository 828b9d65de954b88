//! Places for activities: the limits of the activities that run on this node at once.
//!
//! An activity keeps its place until its outcome is on its way to the storage. A later activity is claimed, and stored,
//! after that outcome. If the process dies, the activities to be run again are therefore no more than the places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Async (0) or blocking (1); each kind has its own limit.
pub(super) type Kind = usize;

/// The places that are taken, of each kind.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Taken>);

#[derive(Default)]
struct Taken {
    taken: [AtomicUsize; 2],
    /// True if a place has become free since the last check.
    released: AtomicBool,
}

/// The place of an activity that has ended and whose outcome is not on its way yet. Freed on drop.
#[derive(Debug)]
pub(super) struct Place {
    kind: Kind,
    places: Places,
}

impl Places {
    pub(super) fn taken(&self, kind: Kind) -> usize {
        self.0.taken[kind].load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, kind: Kind) {
        self.0.taken[kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn free(&self, kind: Kind) {
        self.0.taken[kind].fetch_sub(1, Ordering::Relaxed);
        self.0.released.store(true, Ordering::Relaxed);
    }

    /// Returns a guard that frees a taken place on drop.
    pub(super) fn guard(&self, kind: Kind) -> Place {
        Place { kind, places: self.clone() }
    }

    /// Returns true if a place has become free since the last call.
    pub(super) fn have_become_free(&self) -> bool {
        self.0.released.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.free(self.kind);
    }
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries([self.taken(0), self.taken(1)]).finish()
    }
}
