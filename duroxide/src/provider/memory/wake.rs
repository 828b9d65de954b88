//! Delayed work that a client makes due at once.

use super::state::{Activity, QueuedMessage, State};
use super::*;
use crate::id::MessageId;

impl State {
    pub(super) fn wake(&mut self, request: &WakeRequest) -> Result<Submitted, SubmitError> {
        let WakeRequest { id, instance: name, call, time } = request;
        self.saw(*time);
        if self.is_recorded(id.0) {
            return Ok(self.unnumbered(name, true));
        }
        let instance = self.instances.get(name).ok_or(SubmitError::NotFound)?;
        if instance.status.is_finished() {
            return Err(SubmitError::Finished(instance.status));
        }
        let current = instance.execution;
        let mut activities = self.activities_of(name, None);
        activities.retain(|id| call.is_none_or(|call| id.call == call && id.execution.number == current));
        let waits = |a: &Activity| a.owner.is_none() && !a.parked && a.ready > Ready::At(*time);
        activities.retain(|id| self.activities.get(id).is_some_and(waits));
        for activity in &activities {
            self.change_activity(activity, |activity| activity.ready = Ready::AtOnce(*time));
        }
        let start = self.delayed_start(name, *time).filter(|_| call.is_none());
        start.into_iter().for_each(|start| self.wake_start(name, start, *time));
        let written = start.is_some() || !activities.is_empty();
        if written {
            self.record_done(id.0);
        }
        Ok(self.unnumbered(name, written))
    }

    fn delayed_start(&self, id: &InstanceId, time: Timestamp) -> Option<MessageId> {
        let mut messages = self.instances.get(id)?.messages.values().filter_map(|arrival| self.messages.get(arrival));
        let is_start = |message: &&QueuedMessage| {
            message.row.lane == Lane::Start && message.row.visible_at.is_some_and(|due| due > time)
        };
        messages.find(is_start).map(|message| message.row.id)
    }

    fn wake_start(&mut self, to: &InstanceId, start: MessageId, time: Timestamp) {
        let number = self.begun.number(to);
        let Some(instance) = self.instances.get_mut(to) else { return };
        let stored = instance.messages.get(&start).and_then(|arrival| self.messages.get_mut(arrival));
        let Some(QueuedMessage { row, at, .. }) = stored else { return };
        (row.visible_at, *at) = (Some(time), time);
        if let Some(epoch) = instance.owner {
            let number = number.unwrap_or(instance.arrivals + 1);
            instance.arrivals = instance.arrivals.max(number);
            row.number = Some(number);
            let placement = Placement::Owned { epoch, identity: instance.identity(), number: Some(number) };
            self.leave_mail(to, placement, None);
        }
        self.reindex_instance(to);
    }
}
