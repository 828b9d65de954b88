//! Continue-as-new: the execution ends, the instance goes on with a fresh history.

use semver::Version;

use crate::history::Decision;
use crate::payload::Payload;
use crate::replay::Core;
use crate::replay::core::Place;
use crate::replay::op::Decided;

/// Ends the execution; the first that asks for it wins.
pub(crate) fn end(core: &Core, version: Option<Version>, input: Payload, place: Place) {
    if let Some(mut state) = core.in_turn(place) {
        let what = Decision::ContinuedAsNew { version };
        state.ending.get_or_insert(Decided { what, payload: input, place: Some(place) });
    }
}
