//! The origin of an event: the place of a call, the attempt that brought an outcome, the author of a request. It is for
//! people: no code depends on it.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EndRequest, Input};
use crate::clock::Timestamp;
use crate::hash::HashMap;
use crate::id::Epoch;

/// The run of an attempt of an activity, as it is recorded with the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Short", into = "Short")]
pub struct Run {
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The epoch of the node that ran it. [`Client::nodes`](crate::Client::nodes) lists the nodes.
    pub node: Epoch,
    /// The time from the event that scheduled the activity to the beginning of the attempt, by the clock of that node.
    pub after: Duration,
}

impl Run {
    /// Returns the run of an attempt that has begun now.
    pub(crate) fn begun(attempt: u32, node: Epoch, scheduled: Timestamp, now: Timestamp) -> Self {
        let after = u64::try_from(now.as_micros().saturating_sub(scheduled.as_micros())).unwrap_or(0);
        Self { attempt, node, after: Duration::from_micros(after) }
    }
}

/// The recorded form: the node, the time in microseconds, the number of the attempt. It is in most outcomes that have waited
/// for a node, so it is short.
#[derive(Serialize, Deserialize)]
struct Short(Epoch, u64, u32);

impl From<Short> for Run {
    fn from(Short(node, after, attempt): Short) -> Self {
        Self { attempt, node, after: Duration::from_micros(after) }
    }
}

impl From<Run> for Short {
    fn from(Run { attempt, node, after }: Run) -> Self {
        Self(node, u64::try_from(after.as_micros()).unwrap_or(u64::MAX), attempt)
    }
}

/// The longest path of a source file that is recorded, in bytes.
const MAX_PATH: usize = 100;

thread_local! {
    /// The texts of the places that this thread has recorded, by their addresses: a program has few places, and passes each
    /// of them many times.
    static PLACES: RefCell<HashMap<usize, Arc<str>>> = RefCell::default();
}

/// Returns the text of a place: `src/checkout.rs:41:20`. Of a long path the end is kept, since it names the file.
pub(crate) fn place_text(place: &'static Location<'static>) -> Arc<str> {
    let address = std::ptr::from_ref(place).addr();
    PLACES.with_borrow_mut(|places| places.entry(address).or_insert_with(|| format_place(place)).clone())
}

fn format_place(place: &Location<'_>) -> Arc<str> {
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
    format!("{end}:{}:{}", place.line(), place.column()).into()
}

impl Input {
    /// Returns the attempt that brought the outcome of an activity, if it is recorded.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::ActivityCompleted { run, .. } | Self::ActivityFailed { run, .. } => run.as_ref(),
            Self::Started(_)
            | Self::TimerFired { .. }
            | Self::EventRaised { .. }
            | Self::EventDropped { .. }
            | Self::ChildCompleted { .. }
            | Self::ChildFailed { .. }
            | Self::StartAccepted { .. }
            | Self::StartRejected { .. }
            | Self::CancelRequested { .. }
            | Self::TerminateRequested { .. } => None,
        }
    }

    /// Returns the person or program for which a client sent this input, if it is recorded.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::EventRaised { by, .. } | Self::CancelRequested { by, .. } | Self::TerminateRequested { by, .. } => {
                by.as_deref()
            }
            Self::Started(started) => started.request.as_ref().and_then(EndRequest::by),
            Self::ActivityCompleted { .. }
            | Self::ActivityFailed { .. }
            | Self::TimerFired { .. }
            | Self::EventDropped { .. }
            | Self::ChildCompleted { .. }
            | Self::ChildFailed { .. }
            | Self::StartAccepted { .. }
            | Self::StartRejected { .. } => None,
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
