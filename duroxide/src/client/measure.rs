//! The counts of requests.

use semver::Version;

use super::{Client, ClientError};
use crate::telemetry::{self, RequestOperation, counter, names};

/// Counts a request that has ended, and returns its result.
pub(super) fn counted<T>(operation: RequestOperation, result: Result<T, ClientError>) -> Result<T, ClientError> {
    let outcome = result.as_ref().err().map_or("ok", |error| error.code().as_str());
    counter(names::REQUESTS, &[("operation", operation.as_str()), ("outcome", outcome)]).increment(1);
    result
}

impl Client {
    /// Counts an instance that this client has terminated.
    pub(super) fn count_terminated(&self, name: &str, version: Option<&Version>) {
        let known = self.local.as_ref().is_some_and(|local| local.has_code(name, version));
        telemetry::terminated(known.then_some((name, version)));
    }
}
