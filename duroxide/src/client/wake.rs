//! Makes delayed work of an instance due at once.

use super::audit::Act;
use super::{Client, ClientError};
use crate::id::{CallId, CommitId, InstanceId};
use crate::provider::{Submission, WakeRequest};

impl Client {
    pub(super) async fn wake(&self, instance: &InstanceId, call: Option<CallId>) -> Result<bool, ClientError> {
        self.check_running(Some(instance))?;
        let request = WakeRequest { id: CommitId::new(), instance: instance.clone(), call, time: self.clock.now() };
        let detail = call.map(|call| format!("call {call}"));
        let act = Act { detail: detail.as_deref(), ..Act::named("wake") };
        let submitted = self.submit(instance, self.audited(act, Submission::Wake(request))).await?;
        tracing::info!(%instance, written = submitted.written, "instance woken");
        Ok(submitted.written)
    }
}
