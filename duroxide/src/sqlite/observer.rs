//! For tests that stop the writer between any two statements.

use std::sync::Arc;

/// A moment of the thread that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moment<'a> {
    /// This statement is about to be run.
    Before(&'a str),
    /// This statement was run. Whether it succeeded.
    After(&'a str, bool),
}

/// Is told of each moment of the thread that writes, and holds it up until it returns.
#[derive(Clone)]
pub(super) struct Observer(Arc<dyn Fn(Moment<'_>) + Send + Sync>);

impl Observer {
    pub(super) fn new(observer: impl Fn(Moment<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observer))
    }

    pub(super) fn tell(&self, moment: Moment<'_>) {
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
