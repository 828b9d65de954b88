//! The effects of an activity: the activity itself, and the message that is its deadline.

use super::TurnBuilder;
use crate::clock::Timestamp;
use crate::history::{ActivityScheduled, EventKind, Failure, HistoryEvent, Input};
use crate::id::{CallId, EventId};
use crate::policy::Timeout;
use crate::provider::NewActivity;

impl TurnBuilder<'_> {
    pub(super) fn schedule_activity(&mut self, scheduled: EventId, time: Timestamp, activity: ActivityScheduled) {
        let ActivityScheduled { call, name, tag, detached, options } = activity;
        if let Some(limit) = options.schedule_to_close {
            let failure = Failure::TimedOut { limit: Timeout::ScheduleToClose };
            self.send_at(call, time + limit, Input::ActivityFailed { call, failure });
        }
        let eager = self.claims.activity(&name, tag.as_deref());
        let headers = self.info.started.headers.clone();
        self.turn.activities.push(NewActivity { call, scheduled, name, tag, detached, eager, headers });
    }

    /// Removes the activity after its deadline, or else the deadline.
    pub(super) fn activity_resolved(&mut self, call: CallId, event: Option<&HistoryEvent>) {
        let limit = match event.map(|event| &event.kind) {
            Some(EventKind::Input(Input::ActivityFailed { failure: Failure::TimedOut { limit }, .. })) => Some(*limit),
            _ => None,
        };
        if limit == Some(Timeout::ScheduleToClose) {
            self.turn.cancelled_activities.push(call);
        } else {
            self.turn.cancelled_messages.push(call);
        }
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
        }
        true
    }
}
