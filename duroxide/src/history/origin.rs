//! The origin of an event: the place of a call, the attempt that brought an outcome, the author of a request. It is for
//! people: no code depends on it, and a replay does not compare it.

use std::panic::Location;

use serde::{Deserialize, Serialize};

use super::{ActivityScheduled, ChildScheduled, Decision, EndRequest, Input};
use crate::clock::Timestamp;
use crate::id::Epoch;

/// The run of an attempt of an activity, as it is recorded with the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The number of the attempt, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// The epoch of the node that ran it. [`Client::nodes`](crate::Client::nodes) lists the nodes.
    pub node: Epoch,
    /// When the attempt began, by the clock of that node.
    pub began: Timestamp,
}

fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}

/// The longest path of a source file that is recorded, in bytes.
const MAX_PATH: usize = 100;

/// Returns the text of a place: `src/checkout.rs:41:20`. Of a long path the end is kept, since it names the file.
pub(crate) fn place_text(place: &Location<'_>) -> String {
    let path = place.file();
    let mut from = path.len().saturating_sub(MAX_PATH);
    while !path.is_char_boundary(from) {
        from += 1;
    }
    let end = &path[from..];
    let end = match end.find(['/', '\\']).filter(|_| from > 0) {
        Some(separator) => &end[separator + 1..],
        None => end,
    };
    format!("{end}:{}:{}", place.line(), place.column())
}

impl Decision {
    /// Returns the place of the call in the source, if it is recorded.
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::ActivityScheduled(ActivityScheduled { at, .. })
            | Self::ChildScheduled(ChildScheduled { at, .. })
            | Self::TimerCreated { at, .. }
            | Self::EventAwaited { at, .. }
            | Self::CallRejected { at, .. } => at.as_deref(),
            Self::CallDropped { .. }
            | Self::Completed
            | Self::Failed { .. }
            | Self::Cancelled { .. }
            | Self::Terminated { .. }
            | Self::ContinuedAsNew { .. } => None,
        }
    }

    /// Records the place of the call.
    #[must_use]
    pub(crate) fn placed(mut self, place: Option<&Location<'_>>) -> Self {
        if let Self::ActivityScheduled(ActivityScheduled { at, .. })
        | Self::ChildScheduled(ChildScheduled { at, .. })
        | Self::TimerCreated { at, .. }
        | Self::EventAwaited { at, .. }
        | Self::CallRejected { at, .. } = &mut self
        {
            *at = place.map(place_text);
        }
        self
    }

    /// Returns the decision without its origin, as a replay compares it.
    #[must_use]
    pub(crate) fn without_origin(&self) -> Self {
        let mut bare = self.clone().placed(None);
        if let Self::Terminated { by, .. } = &mut bare {
            *by = None;
        }
        bare
    }
}

impl Input {
    /// Returns the attempt that brought the outcome of an activity, if it is recorded.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::ActivityCompleted { run, .. } | Self::ActivityFailed { run, .. } => run.as_ref(),
            _ => None,
        }
    }

    /// Returns the person or program for which a client sent this input, if it is recorded.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::EventRaised { by, .. } | Self::CancelRequested { by, .. } | Self::TerminateRequested { by, .. } => {
                by.as_deref()
            }
            Self::Started(started) => started.request.as_ref().and_then(EndRequest::by),
            _ => None,
        }
    }

    /// Records the person or program for which a client sends this input.
    pub(crate) fn set_by(&mut self, actor: &str) {
        if let Self::EventRaised { by, .. } | Self::CancelRequested { by, .. } | Self::TerminateRequested { by, .. } =
            self
        {
            *by = Some(actor.to_owned());
        }
    }
}

impl EndRequest {
    /// Returns the person or program for which a client sent the request, if it is recorded.
    pub fn by(&self) -> Option<&str> {
        let (Self::CancelBeforeStart { by, .. } | Self::Cancel { by, .. } | Self::Terminate { by, .. }) = self;
        by.as_deref()
    }
}
