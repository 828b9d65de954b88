//! Continue-as-new: the execution ends, and the instance continues with a new execution and an empty history.

use semver::Version;

use crate::history::Decision;
use crate::payload::Payload;
use crate::replay::op::Decided;
use crate::replay::{CallSite, Core};

/// Ends the execution; the first request in a step wins.
pub(crate) fn end(core: &Core, version: Option<Version>, input: Payload, place: CallSite) {
    if let Some(mut state) = core.lock_in_poll(place) {
        let decision = Decision::ContinuedAsNew { version };
        state.ending.get_or_insert(Decided { decision, payload: input, place: Some(place) });
    }
}
