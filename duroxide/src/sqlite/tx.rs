//! A write transaction, and the signals that it sends once it is durable.

use std::time::{Instant, SystemTime};

use super::dedup::Expiry;
use super::member_code::MemberCode;
use super::payloads;
use super::removals;
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::provider::Signals;

pub(super) struct Tx<'a> {
    pub(super) sql: &'a Sql<'a>,
    /// The latest time named by a call, if there was one.
    pub(super) seen: Option<Timestamp>,
    /// The signals to send once the transaction is durable.
    pub(super) signals: Signals,
    /// The members, once they were read. `None` after a change.
    pub(super) members: Option<MemberCode>,
    /// The number of rows that it may still remove for [removals](super::removals).
    pub(super) removable: usize,
    /// True if rows were left to later transactions.
    pub(super) left_rows: bool,
    /// Payloads that have lost a reference.
    dereferenced: Vec<i64>,
    /// True if it has given a number to a place.
    pub(super) has_new_places: bool,
    /// The number of ids that it has recorded.
    pub(super) recorded: i64,
}

impl<'a> Tx<'a> {
    pub(super) fn new(sql: &'a Sql<'a>, seen: Option<Timestamp>) -> Self {
        Self {
            sql,
            seen,
            signals: Signals::default(),
            members: None,
            removable: removals::ROWS,
            left_rows: false,
            dereferenced: Vec::new(),
            has_new_places: false,
            recorded: 0,
        }
    }

    /// Removes the payload at the end of the transaction, unless it has another reference then.
    pub(super) fn dereferenced(&mut self, payload: i64) {
        self.dereferenced.push(payload);
    }

    pub(super) fn observe_time(&mut self, time: Timestamp) {
        self.seen = self.seen.max(Some(time));
    }

    /// Returns the time for operations that name none: the latest time seen; before the first one, the time of the
    /// operating system.
    pub(super) fn latest_time(&self) -> Timestamp {
        self.seen.unwrap_or_else(|| SystemTime::now().into())
    }

    /// Returns the members. They are read once.
    pub(super) fn members(&mut self) -> rusqlite::Result<&MemberCode> {
        let members = match self.members.take() {
            Some(members) => members,
            None => MemberCode::read(self.sql)?,
        };
        Ok(self.members.insert(members))
    }

    /// Finishes the transaction: removes payloads without a reference, and expired ids.
    pub(super) fn finish(&mut self, expiry: &mut Expiry) -> rusqlite::Result<()> {
        self.dereferenced.sort_unstable();
        self.dereferenced.dedup();
        for payload in self.dereferenced.drain(..) {
            payloads::remove_unreferenced(self.sql, payload)?;
        }
        self.expire(expiry, Instant::now())
    }
}
