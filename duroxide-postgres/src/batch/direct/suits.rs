//! The choice of the turns that are written directly.

use duroxide::id::EventId;
use duroxide::provider::{Commit, Lease, NewInstance, Then, Turn, Write};

use crate::rollout::Members;

/// The kind of a turn that is written directly.
pub(super) enum Kind<'a> {
    /// It creates its instance.
    Created(&'a NewInstance),
    /// It continues its instance.
    Continued,
    /// It finishes its instance.
    Finished,
}

/// Returns the kind of a turn; `None` for a write that concerns rows of other instances, or whose effect depends on rows
/// that are to be read first. `members` are the members as they were last read.
pub(super) fn kind<'a>(lease: &Lease, commit: &'a Commit, members: Option<&Members>) -> Option<Kind<'a>> {
    let Write::Turn(turn) = &commit.write else { return None };
    if !turn.starts.is_empty()
        || !turn.cancelled_activities.is_empty()
        || !turn.messages.iter().all(|out| is_timer(turn, out))
    {
        return None;
    }
    match (&turn.creates, &turn.then) {
        (Some(new), Then::Continue) => {
            let members = members?;
            let is_member = members.contains(lease.epoch);
            let is_outdated = new.version.is_none() && members.is_outdated(lease.epoch, &new.name);
            let suits = is_member && !is_outdated && is_first(turn, new);
            suits.then_some(Kind::Created(new))
        }
        (None, Then::Continue) => Some(Kind::Continued),
        (None, Then::Finish { .. }) => {
            (turn.messages.is_empty() && turn.activities.is_empty()).then_some(Kind::Finished)
        }
        _ => None,
    }
}

/// Returns true if a message of a turn is a timer or a deadline of its own execution.
fn is_timer(turn: &Turn, out: &duroxide::provider::Outgoing) -> bool {
    let execution = &turn.execution;
    out.to == execution.instance
        && out.identity.is_none_or(|identity| identity == execution.identity)
        && out.message.visible_at.is_some()
        && out.message.execution.is_none_or(|number| number == execution.number)
}

fn is_first(turn: &Turn, new: &NewInstance) -> bool {
    let nothing_read = turn.after == EventId(0)
        && turn.consumed.is_empty()
        && turn.outcomes.is_empty()
        && turn.cancelled_messages.is_empty();
    turn.execution == new.first_execution() && nothing_read
}
