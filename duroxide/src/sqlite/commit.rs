//! Dispatches the writes of a node.

use super::activities;
use super::fault::Refusal;
use super::instances;
use super::turns;
use super::tx::Tx;
use crate::provider::{Commit, CommitError, Committed, Lease, Write};

/// Applies one commit of a node.
pub(super) fn commit(tx: &mut Tx<'_>, lease: &Lease, commit: &Commit) -> Result<Committed, Refusal<CommitError>> {
    match &commit.write {
        Write::Turn(turn) => turns::turn(tx, commit.id, Some(lease), turn),
        Write::Outcome { tenure, message } => activities::outcome(tx, lease, tenure, message),
        Write::Retry { tenure, visible_at, failed, cause } => {
            activities::retry(tx, lease, tenure, *visible_at, (failed, cause.as_deref()))
        }
        Write::Park { tenure, reason, cause } => activities::park(tx, lease, tenure, (reason, cause.as_deref())),
        Write::ReleaseActivity { tenure } => activities::release(tx, lease, tenure),
        Write::ReleaseInstance { execution, claim } => instances::release(tx, lease, execution, *claim),
    }
}
