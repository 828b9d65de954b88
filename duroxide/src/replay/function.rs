//! The user's function, as the engine calls it.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Core, Returned};
use crate::payload::{Payload, PayloadError};

/// Reads the input and returns the future of the function.
pub(crate) type Begin = fn(Arc<Core>, &Payload) -> Result<BoxFuture<'static, Returned>, PayloadError>;

type DynBegin = dyn Fn(Arc<Core>, &Payload) -> Result<BoxFuture<'static, Returned>, PayloadError> + Send + Sync;

/// The user's function: turns its input into a future.
pub(crate) struct Function {
    name: String,
    place: String,
    begin: Box<DynBegin>,
}

impl Function {
    /// Creates a function; its name and its place in the source are for messages.
    pub(crate) fn new(
        name: impl fmt::Display,
        place: impl fmt::Display,
        begin: impl Fn(Arc<Core>, &Payload) -> Result<BoxFuture<'static, Returned>, PayloadError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { name: name.to_string(), place: place.to_string(), begin: Box::new(begin) })
    }

    pub(super) fn begin(
        &self,
        core: &Arc<Core>,
        input: &Payload,
    ) -> Result<BoxFuture<'static, Returned>, PayloadError> {
        (self.begin)(core.clone(), input)
    }

    /// Returns its place in the source.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }
}

/// Shows its name, its version and its place.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "orchestration {} ({})", self.name, self.place)
    }
}
