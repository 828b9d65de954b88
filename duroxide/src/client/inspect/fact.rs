//! The facts behind the sentence of a [`Why`](super::Why).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::Suspension;
use crate::provider::{Departure, StuckCode};

/// A fact about the state of an instance, for programs that show it in words of their own.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fact {
    /// The current or next attempt of the activity that it waits for.
    #[non_exhaustive]
    Attempt {
        /// The name of the activity.
        activity: String,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The most attempts that its policy allows. `None`: no limit.
        max_attempts: Option<u32>,
    },
    /// The failed attempts of the activity.
    #[non_exhaustive]
    Failures {
        /// The number of failed attempts.
        times: u32,
        /// When the last one ended.
        last: Timestamp,
        /// The error of the last one.
        error: String,
        /// True if all kept attempts have this error.
        same: bool,
    },
    /// The cause of the failures, the failure or the suspension ([`Status::cause`](crate::Status::cause)), which
    /// other instances may share.
    Cause(String),
    /// When the next attempt may begin.
    NextAttempt(Timestamp),
    /// The time limit of one attempt.
    Limit(Duration),
    /// The name of the node that runs the activity, or owns the instance.
    Node(String),
    /// The number of live nodes that serve the activity.
    Servers(usize),
    /// The code that no live node has, described for people.
    Missing(String),
    /// The last node that had this code, if its departure is known.
    #[non_exhaustive]
    LastServer {
        /// Its name.
        node: String,
        /// Its build.
        build: String,
        /// When it departed.
        left_at: Timestamp,
        /// Its last sign of life.
        seen_at: Timestamp,
        /// The cause of its departure.
        cause: Departure,
    },
    /// External events of this name that the instance has not read, if it waits for an event: they may have been raised under
    /// a wrong name. The first names alone; [`Inspection::unread`](super::Inspection::unread) has all.
    #[non_exhaustive]
    Unread {
        /// The name of the events.
        event: String,
        /// Their number.
        count: u64,
    },
    /// The builds that have tried a suspended instance in vain, beside that of [`Suspension::build`]. A further build tries it
    /// when one of its nodes joins.
    Tried(Vec<String>),
    /// The open calls, if there are several. Of the activities among them, at most
    /// [`LIMIT`](crate::provider::InstanceActivities::LIMIT) are told apart by their state.
    #[non_exhaustive]
    Open {
        /// The number of open calls.
        open: usize,
        /// The number of calls that were made together with these, including them.
        made: usize,
        /// The activities that run.
        running: usize,
        /// The activities that wait for a node, or for their next attempt.
        queued: usize,
        /// The activities of which an attempt has failed.
        failing: usize,
    },
    /// The code of the instance, or of the activity, that has not returned for a long time.
    Stuck(Box<StuckCode>),
    /// The reason of the suspension, with the event, both decisions and the build, as far as they are known.
    Suspension(Box<Suspension>),
}
