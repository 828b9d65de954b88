//! Pauses an instance.

use std::future::IntoFuture;

use futures_util::future::BoxFuture;

use super::audit::Act;
use super::handle::check_reason;
use super::measure::counted;
use super::{Client, ClientError};
use crate::clock::Timestamp;
use crate::effect::Causes;
use crate::error::{ErrorCode, Pause, Suspension};
use crate::id::{CommitId, InstanceId, InvalidId};
use crate::provider::{Submission, SuspendRequest};
use crate::telemetry::RequestOperation;

/// A request to pause an instance: set its end, then `.await` it. [`Handle::suspend`](super::Handle::suspend) explains its
/// effect.
///
/// # Errors
/// [`ClientError`]: there is no such instance, it has finished, the reason has more than 16 KiB, the storage fails, or the
/// runtime has stopped.
///
/// # Cancel safety
/// If the future is dropped after its first poll, the request may have been carried out or not; the call may be repeated.
#[must_use = "the instance is suspended when this is awaited"]
pub struct SuspendCall {
    client: Client,
    instance: Result<InstanceId, InvalidId>,
    reason: String,
    until: Option<Timestamp>,
}

impl SuspendCall {
    pub(super) fn new(client: &Client, instance: &Result<InstanceId, InvalidId>, reason: String) -> Self {
        Self { client: client.clone(), instance: instance.clone(), reason, until: None }
    }

    /// Sets the time at which the instance is resumed: by the next node that looks for work and has its code. A time in the
    /// past resumes it at once. Default: only [`Handle::resume`](super::Handle::resume) resumes it.
    pub fn until(mut self, time: impl Into<Timestamp>) -> Self {
        self.until = Some(time.into());
        self
    }

    async fn send(self) -> Result<(), ClientError> {
        let Self { client, instance, reason, until } = self;
        let instance = instance?;
        check_reason(&instance, &reason)?;
        client.check_running(Some(&instance))?;
        let time = client.clock.now();
        let pause = Pause { by: client.actor(), since: time, until };
        let suspension = Suspension { pause: Some(pause), ..Suspension::new(ErrorCode::Paused, reason) };
        let reason = serde_json::to_string(&suspension).unwrap_or_default();
        let causes = if client.cause_messages { Causes::Messages } else { Causes::Kinds };
        let (id, cause) = (CommitId::new(), causes.of_suspension(suspension.code.as_str(), &suspension.message));
        let request = SuspendRequest { id, instance: instance.clone(), reason, cause, until, time };
        let act = Act { reason: Some(&suspension.message), ..Act::named("suspend") };
        client.submit(&instance, client.audited(act, Submission::Suspend(request))).await?;
        client.left(&instance);
        tracing::info!(%instance, "instance paused");
        Ok(())
    }
}

impl IntoFuture for SuspendCall {
    type Output = Result<(), ClientError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { counted(RequestOperation::Suspend, self.send().await) })
    }
}

impl std::fmt::Debug for SuspendCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SuspendCall").field("until", &self.until).finish_non_exhaustive()
    }
}
