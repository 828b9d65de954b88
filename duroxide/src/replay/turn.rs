//! A turn: the time during which the function is polled. A context knows whether it is in its own turn.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Wake;

use super::core::Core;

thread_local! {
    /// The address of the core whose turn runs on this thread; zero outside of turns.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, this thread is in the turn of a core.
pub(super) struct TurnGuard {
    before: usize,
}

impl TurnGuard {
    pub(super) fn enter(core: &Arc<Core>) -> Self {
        Self { before: CURRENT.replace(Arc::as_ptr(core).addr()) }
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Whether this thread is in the turn of that core.
pub(super) fn is_in_turn_of(core: &Core) -> bool {
    CURRENT.get() == std::ptr::from_ref(core).addr()
}

/// The waker of the function. Within the turn it asks for another poll; from outside it is a sign of something that is not
/// durable.
pub(super) struct TurnWaker {
    woken: AtomicBool,
    core: Weak<Core>,
}

impl TurnWaker {
    pub(super) fn new(core: Weak<Core>) -> Self {
        Self { woken: AtomicBool::new(false), core }
    }

    pub(super) fn wake_in_turn(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> bool {
        self.woken.swap(false, Ordering::Relaxed)
    }
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(core) = self.core.upgrade() else { return };
        if is_in_turn_of(&core) {
            self.wake_in_turn();
        } else {
            core.stray_wake();
        }
    }
}
