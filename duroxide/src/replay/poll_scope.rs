//! Detects whether user code uses its context from within its own poll.
//!
//! A context may decide something only while the engine polls the function that owns it. A [`PollScope`] marks the
//! thread for that time. A context used outside of it (in a spawned task, in another thread, in a destructor after
//! eviction) is misuse.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Wake;

use super::core::Core;

thread_local! {
    /// The core whose function is polled on this thread; `None` outside of a poll.
    static CURRENT: RefCell<Option<Arc<Core>>> = const { RefCell::new(None) };
}

/// Marks this thread as polling the function of one core, until it is dropped.
pub(super) struct PollScope {
    before: Option<Arc<Core>>,
}

impl PollScope {
    pub(super) fn enter(core: &Arc<Core>) -> Self {
        Self { before: CURRENT.replace(Some(core.clone())) }
    }
}

impl Drop for PollScope {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// Returns true if this thread is polling the function of that core.
pub(super) fn is_polling(core: &Core) -> bool {
    // Destructors of other thread-local values may ask when this one is gone: then nothing is polled.
    let is_current = |current: &Option<Arc<Core>>| current.as_ref().is_some_and(|it| std::ptr::eq(&**it, core));
    CURRENT.try_with(|current| is_current(&current.borrow())).unwrap_or(false)
}

/// Returns the core whose function this thread is polling, if any.
pub(super) fn current() -> Option<Arc<Core>> {
    CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default()
}

/// The waker of the function. A wake within its [`PollScope`] requests another poll; a wake from outside proves that
/// the function waits for something that is not durable.
pub(super) struct FunctionWaker {
    poll_requested: AtomicBool,
    core: Weak<Core>,
}

impl FunctionWaker {
    pub(super) fn new(core: Weak<Core>) -> Self {
        Self { poll_requested: AtomicBool::new(false), core }
    }

    pub(super) fn request_poll(&self) {
        self.poll_requested.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_request(&self) -> bool {
        self.poll_requested.swap(false, Ordering::Relaxed)
    }
}

impl Wake for FunctionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(core) = self.core.upgrade() else { return };
        if is_polling(&core) {
            self.request_poll();
        } else {
            core.stray_wake();
        }
    }
}
