//! Permits for activities: the limits of the activities that run on this node at once.
//!
//! An activity keeps its permit until its outcome is on its way to the storage. A later activity is claimed, and stored,
//! after that outcome. If the process dies, the activities to be run again are therefore no more than the permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::activity::ActivityCode;

/// The kind of an activity; each kind has its own limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::node) enum Kind {
    Async,
    Blocking,
}

impl Kind {
    pub(in crate::node) const ALL: [Self; 2] = [Self::Async, Self::Blocking];

    pub(in crate::node) fn of(code: &ActivityCode) -> Self {
        if code.is_blocking() { Self::Blocking } else { Self::Async }
    }
}

/// The permits that are taken, of each kind.
#[derive(Clone, Default)]
pub(super) struct ActivityPermits(Arc<Taken>);

#[derive(Default)]
struct Taken {
    taken: [AtomicUsize; 2],
    /// True if a permit was released since the last check.
    released: AtomicBool,
}

/// The permit of an activity that has ended and whose outcome is not on its way yet. Released on drop.
#[derive(Debug)]
pub(in crate::node) struct Permit {
    kind: Kind,
    permits: ActivityPermits,
}

impl ActivityPermits {
    pub(super) fn taken(&self, kind: Kind) -> usize {
        self.0.taken[kind as usize].load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, kind: Kind) {
        self.0.taken[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self, kind: Kind) {
        self.0.taken[kind as usize].fetch_sub(1, Ordering::Relaxed);
        self.0.released.store(true, Ordering::Relaxed);
    }

    /// Returns a guard that releases a taken permit on drop.
    pub(super) fn guard(&self, kind: Kind) -> Permit {
        Permit { kind, permits: self.clone() }
    }

    /// Returns true if a permit was released since the last call.
    pub(super) fn were_released(&self) -> bool {
        self.0.released.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.release(self.kind);
    }
}

impl std::fmt::Debug for ActivityPermits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(Kind::ALL.map(|kind| self.taken(kind))).finish()
    }
}
