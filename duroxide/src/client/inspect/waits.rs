//! The open waits of an execution, derived from its history without running its code.

use std::collections::{BTreeMap, HashSet};
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::{CallId, ExecutionId, InstanceId};

/// A call without an outcome.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OpenWait {
    /// The call.
    pub call: CallId,
    /// When it was made.
    pub since: Timestamp,
    /// Its place in the source: `src/checkout.rs:41:20`.
    pub at: Option<Arc<str>>,
    /// The operation.
    pub operation: Waiting,
}

/// The operation of an [`OpenWait`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Waiting {
    /// An activity.
    #[non_exhaustive]
    Activity {
        /// Its name.
        name: String,
        /// The most attempts that its policy allows. `None`: no limit.
        max_attempts: Option<u32>,
        /// The time limit of an attempt.
        limit: Option<Duration>,
    },
    /// A timer.
    #[non_exhaustive]
    Timer {
        /// When it fires.
        due: Timestamp,
    },
    /// An external event.
    #[non_exhaustive]
    Event {
        /// The name of the event.
        name: String,
    },
    /// A child orchestration, or a detached start that is not carried out yet.
    #[non_exhaustive]
    Child {
        /// Its id.
        instance: InstanceId,
        /// The name of the orchestration.
        name: String,
    },
}

/// Returns the calls and events for which an execution waits, in the order of the calls.
pub(crate) fn open_waits(execution: &ExecutionId, history: &[HistoryEvent]) -> Vec<OpenWait> {
    let mut open = BTreeMap::<CallId, OpenWait>::new();
    for event in history {
        match &event.kind {
            EventKind::Decision(Decision::CallDropped { call }) => drop(open.remove(call)),
            EventKind::Decision(decision) => {
                let made = operation(execution, decision);
                open.extend(made.map(|(call, operation)| {
                    (call, OpenWait { call, since: event.time, at: event.at.clone(), operation })
                }));
            }
            EventKind::Input(Input::EventRaised { name, .. }) => {
                // The oldest wait takes it.
                let awaits = |wait: &OpenWait| matches!(&wait.operation, Waiting::Event { name: n } if n == name);
                let oldest = open.iter().find(|(_, wait)| awaits(wait)).map(|(call, _)| *call);
                oldest.and_then(|call| open.remove(&call));
            }
            EventKind::Input(input) => {
                input.call().and_then(|call| open.remove(&call));
            }
        }
    }
    open.into_values().collect()
}

/// Returns the number of calls that were made in the steps of the open ones, and are of their kinds.
pub(super) fn made_together(execution: &ExecutionId, open: &[OpenWait], history: &[HistoryEvent]) -> usize {
    let steps: HashSet<_> = open.iter().map(|wait| (wait.since, discriminant(&wait.operation))).collect();
    let made = history.iter().filter_map(|event| match &event.kind {
        EventKind::Decision(decision) => Some((event.time, discriminant(&operation(execution, decision)?.1))),
        EventKind::Input(_) => None,
    });
    made.filter(|made| steps.contains(made)).count()
}

fn operation(execution: &ExecutionId, decision: &Decision) -> Option<(CallId, Waiting)> {
    Some(match decision {
        Decision::ActivityScheduled(activity) => {
            let options = &activity.options;
            // Without a policy, an activity has one attempt.
            let max_attempts = options.retry.as_ref().map_or(Some(1), |retry| retry.max_attempts);
            let (name, limit) = (activity.name.clone(), options.start_to_close);
            (activity.call, Waiting::Activity { name, max_attempts, limit })
        }
        Decision::ChildScheduled(child) => {
            (child.call, Waiting::Child { instance: child.instance_in(execution), name: child.name.clone() })
        }
        Decision::TimerCreated { call, due } => (*call, Waiting::Timer { due: *due }),
        Decision::EventAwaited { call, name } => (*call, Waiting::Event { name: name.clone() }),
        Decision::CallRejected { .. }
        | Decision::CallDropped { .. }
        | Decision::Completed
        | Decision::Failed { .. }
        | Decision::Cancelled { .. }
        | Decision::Terminated { .. }
        | Decision::ContinuedAsNew { .. } => return None,
    })
}
