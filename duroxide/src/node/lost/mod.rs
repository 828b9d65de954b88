//! Requests whose answer is lost or late.

mod recheck;
mod unconfirmed;

pub(super) use recheck::RecheckList;
pub(super) use unconfirmed::{RequestNumber, Unconfirmed};
