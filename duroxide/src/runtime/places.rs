//! Places for activities: how many this node runs at once.
//!
//! An activity keeps its place until its outcome is on its way to the storage. What is taken on after that is claimed, and
//! stored, behind the outcome: so no more activities than there are places have to be run again when the process dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Async and blocking ones have places of their own.
pub(super) type Kind = usize;

/// The places that are taken, of each kind.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Taken>);

#[derive(Default)]
struct Taken {
    taken: [AtomicUsize; 2],
    /// Whether one has become free since that was last asked.
    freed: AtomicBool,
}

/// The place of an activity that has ended and whose outcome is not on its way yet. Free once it is dropped.
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
        self.0.freed.store(true, Ordering::Relaxed);
    }

    /// A place that is taken, to be free once this is dropped.
    pub(super) fn keep(&self, kind: Kind) -> Place {
        Place { kind, places: self.clone() }
    }

    /// Whether a place has become free since the last call.
    pub(super) fn have_become_free(&self) -> bool {
        self.0.freed.swap(false, Ordering::Relaxed)
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
