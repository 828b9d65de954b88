//! The observer of the writer thread, for tests that stop the writer between any two statements.

use std::sync::Arc;

/// A moment in the writer thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moment<'a> {
    /// The statement is about to run.
    Before(&'a str),
    /// The statement has run; the flag is true if it succeeded.
    After(&'a str, bool),
}

/// Called at each moment of the writer thread, which waits until the call returns.
#[derive(Clone)]
pub(super) struct Observer(Arc<dyn Fn(Moment<'_>) + Send + Sync>);

impl Observer {
    pub(super) fn new(observer: impl Fn(Moment<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observer))
    }

    pub(super) fn call(&self, moment: Moment<'_>) {
        (self.0)(moment);
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl PartialEq for Observer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Observer {}
