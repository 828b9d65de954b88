//! The effects of an activity: the activity itself, and the message that is its deadline.

use super::TurnBuilder;
use crate::clock::Timestamp;
use crate::history::{ActivityScheduled, EventKind, Failure, HistoryEvent, Input, TextMap, TimeoutDetails};
use crate::id::{CallId, EventId};
use crate::payload::Payload;
use crate::policy::Timeout;
use crate::provider::NewActivity;

/// An activity that a turn has scheduled, as an attempt needs it. A node that begins the first attempt itself does not read
/// the stored event.
pub(crate) struct ScheduledActivity {
    pub(crate) scheduled: Box<ActivityScheduled>,
    pub(crate) input: Payload,
    /// When it was scheduled.
    pub(crate) time: Timestamp,
    pub(crate) headers: TextMap,
}

impl TurnBuilder<'_> {
    pub(super) fn schedule_activity(
        &mut self,
        scheduled: EventId,
        time: Timestamp,
        activity: Box<ActivityScheduled>,
        input: Payload,
    ) {
        let ActivityScheduled { call, ref name, ref tag, detached, ref options } = *activity;
        if let Some(limit) = options.schedule_to_close {
            let details = TimeoutDetails { activity: name.clone(), after: Some(limit), attempts: None, last: None };
            let failure = Failure::TimedOut { limit: Timeout::ScheduleToClose, details: Some(Box::new(details)) };
            self.send_at(call, time + limit, Input::ActivityFailed { call, failure, callee: None, run: None });
        }
        let eager = self.claims.activity(name, tag.as_deref());
        let (name, tag, headers) = (name.clone(), tag.clone(), self.info.started.headers.clone());
        if eager {
            let headers = headers.clone();
            self.eager.push(ScheduledActivity { scheduled: activity, input, time, headers });
        }
        self.turn.activities.push(NewActivity { call, scheduled, name, tag, detached, eager, headers });
    }

    /// Removes the deadline, and after it also the activity: it may have been the deadline, or the node that would have
    /// had to begin the next attempt after it.
    pub(super) fn activity_resolved(&mut self, call: CallId, event: Option<&HistoryEvent>) {
        let limit = match event.map(|event| &event.kind) {
            Some(EventKind::Input(Input::ActivityFailed { failure: Failure::TimedOut { limit, .. }, .. })) => {
                Some(*limit)
            }
            _ => None,
        };
        if limit == Some(Timeout::ScheduleToClose) {
            self.turn.cancelled_activities.push(call);
        }
        self.turn.cancelled_messages.push(call);
    }

    pub(super) fn activity_dropped(&mut self, call: CallId, deadline: bool) {
        if !self.remove_scheduled(call) {
            self.turn.cancelled_activities.push(call);
        }
        if deadline {
            self.cancel_timer(call);
        }
    }

    pub(super) fn close_open_activity(&mut self, call: CallId, detached: bool) {
        if !detached {
            self.remove_scheduled(call);
        }
    }

    /// Removes an activity that an earlier step of this turn has scheduled. Returns false if there is none.
    fn remove_scheduled(&mut self, call: CallId) -> bool {
        let Some(index) = self.turn.activities.iter().position(|activity| activity.call == call) else { return false };
        let activity = self.turn.activities.remove(index);
        if activity.eager {
            self.claims.release(&activity.name);
            self.eager.retain(|eager| eager.scheduled.call != call);
        }
        true
    }
}
