//! The last failures of activities that this node retries.
//!
//! The time-out of an activity is a message that is stored when the activity is scheduled. If it is delivered while the
//! activity waits for its next attempt, or runs it, the node adds the failure of the last attempt, so that the caller sees
//! why the activity has not succeeded. A failure is kept in memory only: after a take-over the time-out comes without.

use crate::clock::Timestamp;
use crate::hash::HashMap;
use crate::history::{ActivityScheduled, Failure, Input, TimeoutDetails};
use crate::id::{ActivityId, ExecutionId};
use crate::message::Message;
use crate::node::delivery::Delivery;
use crate::node::inbox::Inbox;
use crate::policy::Timeout;
use crate::provider::MessageRow;
use crate::replay::Failed;

#[derive(Default)]
pub(super) struct LastFailures(HashMap<ActivityId, LastFailure>);

struct LastFailure {
    attempts: u32,
    failed: Failed,
    deadline: Timestamp,
}

impl LastFailures {
    /// Keeps the failure of an attempt that will be repeated.
    pub(super) fn keep(
        &mut self,
        activity: ActivityId,
        attempts: u32,
        failed: Failed,
        deadline: Timestamp,
        now: Timestamp,
    ) {
        if self.0.len() == self.0.capacity() {
            // Those of activities that were repeated on another node.
            self.0.retain(|_, last| last.deadline >= now);
        }
        self.0.insert(activity, LastFailure { attempts, failed, deadline });
    }

    /// Drops the failure of an activity that has ended.
    pub(super) fn forget(&mut self, activity: &ActivityId) {
        self.0.remove(activity);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds the last failure to each time-out among the deliveries.
    pub(super) fn add_to(&mut self, execution: &ExecutionId, deliveries: &mut Inbox) {
        if self.0.is_empty() {
            return;
        }
        for delivery in deliveries.others_mut() {
            let Delivery::Message(row) = delivery else { continue };
            let Some(call) = row.call.filter(|_| row.visible_at.is_some()) else { continue };
            let last = self.0.remove(&ActivityId { execution: execution.clone(), call });
            if let Some(completed) = last.and_then(|last| last.completed(row)) {
                **row = completed;
            }
        }
    }
}

impl LastFailure {
    /// Returns the message with this failure; `None` if it is not a time-out.
    fn completed(self, row: &MessageRow) -> Option<MessageRow> {
        let mut message = Message::try_from(row.clone()).ok()?;
        let Input::ActivityFailed { failure: Failure::TimedOut { limit: Timeout::ScheduleToClose, details }, .. } =
            &mut message.input
        else {
            return None;
        };
        let details = details.as_deref_mut()?;
        (details.attempts, details.last) = (Some(self.attempts), Some(without_details(self.failed.failure)));
        message.payload = self.failed.error;
        Some(MessageRow { number: row.number, ..MessageRow::from(&message) })
    }
}

/// Returns the failure of an activity whose next attempt would begin after its limit.
pub(super) fn out_of_time(scheduled: &ActivityScheduled, attempts: u32, last: Failure) -> Failure {
    let (activity, after) = (scheduled.name.clone(), scheduled.options.schedule_to_close);
    let last = Some(without_details(last));
    let details = TimeoutDetails { activity, after, attempts: Some(attempts), last };
    Failure::TimedOut { limit: Timeout::ScheduleToClose, details: Some(Box::new(details)) }
}

/// Removes the details of a time-out within another one: they would repeat those of the activity.
fn without_details(failure: Failure) -> Failure {
    match failure {
        Failure::TimedOut { limit, .. } => Failure::TimedOut { limit, details: None },
        other => other,
    }
}
