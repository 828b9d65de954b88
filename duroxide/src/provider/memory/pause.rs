//! Pauses of instances.

use super::state::{CrashRecord, Instance, State};
use super::*;

impl Instance {
    /// Returns when the pause ends, unless only a client ends it.
    pub(super) fn pause_ends(&self) -> Option<Ready> {
        self.paused.as_ref().and_then(|pause| pause.until).map(Ready::At)
    }

    /// Lets a suspended instance run again. All builds may try it.
    pub(super) fn resume(&mut self, time: Timestamp) {
        self.status = InstanceStatus::Running;
        (self.paused, self.suspension, self.cause) = (None, None, None);
        self.rejected_by.clear();
        self.crashes = CrashRecord::default();
        self.updated_at = time;
    }
}

impl State {
    pub(super) fn suspend(&mut self, request: SuspendRequest) -> Result<Submitted, SubmitError> {
        let SuspendRequest { id, instance: name, reason, cause, until, time } = request;
        self.saw(time);
        if self.is_recorded(id.0) {
            return Ok(self.unnumbered(&name, true));
        }
        let instance = self.instances.get_mut(&name).ok_or(SubmitError::NotFound)?;
        if instance.status.is_finished() {
            return Err(SubmitError::Finished(instance.status));
        }
        instance.status = InstanceStatus::Suspended;
        (instance.paused, instance.cause) = (Some(StoredPause { reason, until }), Some(cause));
        instance.owner = None;
        // It is no longer in quarantine: a node that claims it at the end of the pause sees no crash.
        instance.crashes = CrashRecord::default();
        instance.updated_at = time;
        self.reindex_instance(&name);
        self.record_done(id.0);
        // It may have a request to terminate, which is now carried out by any node.
        self.signals.work = true;
        self.signals.changed(&name);
        Ok(self.unnumbered(&name, true))
    }

    /// Resumes an instance whose pause has ended, because it is claimed.
    pub(super) fn end_pause(&mut self, id: &InstanceId) {
        let latest = self.latest;
        if let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.paused.is_some()) {
            instance.resume(latest);
            self.signals.changed(id);
        }
    }
}
