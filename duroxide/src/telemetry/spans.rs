//! The spans of the library.

use std::fmt::Display;

use tracing::Span;

use fields::*;

/// The names of the fields of spans.
pub mod fields {
    /// The id of an instance.
    pub const INSTANCE: &str = "duroxide.instance";
    /// The number of an execution, from 1.
    pub const EXECUTION: &str = "duroxide.execution";
    /// The name of an orchestration.
    pub const ORCHESTRATION: &str = "duroxide.orchestration";
    /// The version of an orchestration.
    pub const VERSION: &str = "duroxide.version";
    /// The name of an activity.
    pub const ACTIVITY: &str = "duroxide.activity";
    /// The number of a call in its execution.
    pub const CALL: &str = "duroxide.call";
    /// The number of an attempt, from 1.
    pub const ATTEMPT: &str = "duroxide.attempt";
    /// The id of a node.
    pub const NODE: &str = "duroxide.node";
    /// The number of commits in a request.
    pub const COMMITS: &str = "duroxide.commits";
}

/// The start of an instance by a client.
pub(crate) fn start(instance: &str, orchestration: &str) -> Span {
    tracing::info_span!("duroxide.start", { INSTANCE } = instance, { ORCHESTRATION } = orchestration)
}

/// The facts about a turn.
pub(crate) struct TurnFields<'a> {
    pub(crate) instance: &'a dyn Display,
    pub(crate) execution: u64,
    pub(crate) orchestration: &'a str,
    pub(crate) version: &'a dyn Display,
    pub(crate) node: &'a dyn Display,
}

/// A turn. It is entered after the replay.
pub(crate) fn turn(fields: &TurnFields<'_>) -> Span {
    tracing::info_span!(
        parent: None,
        "duroxide.turn",
        { INSTANCE } = %fields.instance,
        { EXECUTION } = fields.execution,
        { ORCHESTRATION } = fields.orchestration,
        { VERSION } = %fields.version,
        { NODE } = %fields.node,
    )
}

/// The facts about an attempt.
pub(crate) struct AttemptFields<'a> {
    pub(crate) instance: &'a dyn Display,
    pub(crate) execution: u64,
    pub(crate) activity: &'a str,
    pub(crate) call: &'a dyn Display,
    pub(crate) attempt: u32,
    pub(crate) node: &'a dyn Display,
}

/// An attempt of an activity.
pub(crate) fn attempt(fields: &AttemptFields<'_>) -> Span {
    tracing::info_span!(
        parent: None,
        "duroxide.attempt",
        { INSTANCE } = %fields.instance,
        { EXECUTION } = fields.execution,
        { ACTIVITY } = fields.activity,
        { CALL } = %fields.call,
        { ATTEMPT } = fields.attempt,
        { NODE } = %fields.node,
    )
}

/// A request that commits.
pub(crate) fn commit(commits: usize, node: &dyn Display) -> Span {
    tracing::debug_span!(parent: None, "duroxide.commit", { COMMITS } = commits, { NODE } = %node)
}

/// A request for work.
pub(crate) fn acquire(node: &dyn Display) -> Span {
    tracing::debug_span!(parent: None, "duroxide.acquire", { NODE } = %node)
}
