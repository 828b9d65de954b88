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
    pub(super) sql: Sql<'a>,
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
    /// The current period, once it was read.
    period: Option<i64>,
    /// The highest number of the instances whose rows are still to be removed, if there is one, once it was read. `None`
    /// after a change.
    highest_removed: Option<Option<i64>>,
    /// Payloads that have lost a reference.
    dereferenced: Vec<i64>,
    /// True if it has given a number to a place.
    pub(super) has_new_places: bool,
    /// The number of ids that it has recorded.
    pub(super) recorded: i64,
}

impl<'a> Tx<'a> {
    pub(super) fn new(sql: Sql<'a>, seen: Option<Timestamp>) -> Self {
        Self {
            sql,
            seen,
            signals: Signals::default(),
            members: None,
            removable: removals::ROWS,
            left_rows: false,
            period: None,
            highest_removed: None,
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
            None => MemberCode::read(&self.sql)?,
        };
        Ok(self.members.insert(members))
    }

    /// Returns the current period, in which [ids expire](super::dedup).
    pub(super) fn period(&mut self) -> rusqlite::Result<i64> {
        if self.period.is_none() {
            self.period = self.sql.row("SELECT period FROM duroxide_counters", [], |row| row.get(0))?;
        }
        Ok(self.period.unwrap_or(0))
    }

    /// Returns the number for a new instance. `None`: SQLite's choice, the one after the last, is free. It is not free if a
    /// removed instance had it whose rows are still to be [removed](super::removals).
    pub(super) fn number_of_new_instance(&mut self) -> rusqlite::Result<Option<i64>> {
        let highest = match self.highest_removed {
            Some(highest) => highest,
            None => {
                let find = "SELECT max(instance) FROM duroxide_removals";
                let highest = self.sql.row(find, [], |row| row.get(0))?.flatten();
                *self.highest_removed.insert(highest)
            }
        };
        let Some(highest) = highest else { return Ok(None) };
        let last = self.sql.row("SELECT max(seq) FROM duroxide_instances", [], |row| row.get::<_, Option<i64>>(0))?;
        Ok((last.flatten() < Some(highest)).then_some(highest + 1))
    }

    /// Drops the highest number of the removals, after a change of them.
    pub(super) fn forget_removals(&mut self) {
        self.highest_removed = None;
    }

    /// Finishes the transaction: removes payloads without a reference, and expired ids.
    pub(super) fn finish(&mut self, expiry: &mut Expiry) -> rusqlite::Result<()> {
        self.dereferenced.sort_unstable();
        self.dereferenced.dedup();
        for payload in self.dereferenced.drain(..) {
            payloads::remove_unreferenced(&self.sql, payload)?;
        }
        self.expire(expiry, Instant::now())
    }
}
