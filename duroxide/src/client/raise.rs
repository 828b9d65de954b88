//! Sends an external event.

use std::future::IntoFuture;

use futures_util::future::BoxFuture;

use super::measure::counted;
use super::start::{HEADERS, check_texts};
use super::{Client, ClientError};
use crate::history::{Input, TextMap};
use crate::id::{InstanceId, InvalidId, MAX_NAME_LEN, check_text};
use crate::payload::{Payload, PayloadError};
use crate::telemetry::RequestOperation;

/// An external event to be sent: set its headers, then `.await` it. Once the call has returned `Ok`, the event is never
/// lost: it is queued, in order, until the orchestration reads it.
///
/// # Errors
/// [`ClientError`]: there is no such instance, it has finished, the event is refused, the storage fails, or the runtime
/// of this client has stopped.
///
/// # Cancel safety
/// If the future is dropped after its first poll, the event may or may not be sent.
#[must_use = "the event is sent when this is awaited"]
pub struct RaiseCall {
    client: Client,
    instance: Result<InstanceId, InvalidId>,
    name: String,
    payload: Result<Payload, PayloadError>,
    headers: TextMap,
}

impl RaiseCall {
    pub(super) fn new(
        client: &Client,
        instance: &Result<InstanceId, InvalidId>,
        name: &str,
        payload: Result<Payload, PayloadError>,
    ) -> Self {
        let (client, instance) = (client.clone(), instance.clone());
        Self { client, instance, name: name.to_owned(), payload, headers: TextMap::new() }
    }

    /// Adds a header, such as a trace context: up to 64 headers, with 128 bytes of name and 1,024 of value. It is
    /// recorded with the event and returned by [`Handle::history`](super::Handle::history). A later value of the same
    /// name replaces an earlier one.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Checks the values. Returns the client, the instance and the event.
    pub(super) fn check(self) -> Result<(Client, InstanceId, Input, Payload), ClientError> {
        let Self { client, instance, name, payload, headers } = self;
        let id = instance?;
        check_text("event name", &name, MAX_NAME_LEN)?;
        check_texts(&HEADERS, &headers)?;
        let payload = payload.map_err(|e| ClientError::payload(&id, "the event", &e))?;
        client.check_size(&id, "the event", &payload)?;
        Ok((client, id, Input::EventRaised { name, headers, by: None }, payload))
    }

    async fn send(self) -> Result<(), ClientError> {
        let (client, id, input, payload) = self.check()?;
        client.send(&id, input, payload).await
    }
}

impl IntoFuture for RaiseCall {
    type Output = Result<(), ClientError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { counted(RequestOperation::Raise, self.send().await) })
    }
}

impl std::fmt::Debug for RaiseCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaiseCall").field("name", &self.name).finish_non_exhaustive()
    }
}
