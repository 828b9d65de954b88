//! A write transaction, the signals that it sends once it is durable, and its table of processed ids.

use std::time::{Duration, SystemTime};

use super::member_code::MemberCode;
use super::rows::{int, status, uuid};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::provider::{InstanceStatus, Signals};

/// The time for which a processed id is kept once its row is gone, to recognize a repeated request.
const DEDUP_TIME: Duration = Duration::from_secs(3600);
/// The number of old ids that are checked for expiry for each new one. More than one, so that they do not accumulate.
const CHECKED_PER_ID: i64 = 4;
/// The stored status of an instance that does not exist.
const NONE: &str = "none";

/// The recorded result of a request that is sent again.
pub(super) enum DedupEntry {
    /// It was carried out.
    Done,
    /// It was refused because of an instance with this status, or because there was none.
    Refused(Option<InstanceStatus>),
}

pub(super) struct Tx<'a> {
    pub(super) sql: &'a Sql,
    /// The latest time named by a call, if there was one.
    pub(super) seen: Option<Timestamp>,
    /// The signals to send once the transaction is durable.
    pub(super) signals: Signals,
    /// The members, once they were read. `None` after a change.
    pub(super) members: Option<MemberCode>,
    /// The number of ids that it has recorded.
    recorded: i64,
}

impl<'a> Tx<'a> {
    pub(super) fn new(sql: &'a Sql, seen: Option<Timestamp>) -> Self {
        Self { sql, seen, signals: Signals::default(), members: None, recorded: 0 }
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

    /// Records that the request with this id was carried out.
    pub(super) fn record_done(&mut self, id: uuid::Uuid) -> rusqlite::Result<()> {
        self.record_as(id, None)
    }

    /// Records that the request with this id was refused, and the status of the instance that it found.
    pub(super) fn record_refused(&mut self, id: uuid::Uuid, found: Option<InstanceStatus>) -> rusqlite::Result<()> {
        self.record_as(id, Some(found.map_or(NONE, InstanceStatus::as_str)))
    }

    fn record_as(&mut self, id: uuid::Uuid, refused: Option<&str>) -> rusqlite::Result<()> {
        self.recorded += 1;
        let insert = "INSERT OR IGNORE INTO duroxide_dedup (id, time, refused) VALUES (?1, ?2, ?3)";
        self.sql.run(insert, (id.as_bytes(), self.latest_time().as_micros(), refused)).map(drop)
    }

    /// Returns the time before which recorded ids have expired.
    fn expiry_cutoff(&self) -> i64 {
        self.latest_time().as_micros().saturating_sub(int(DEDUP_TIME.as_secs()).saturating_mul(1_000_000))
    }

    pub(super) fn is_recorded(&self, id: uuid::Uuid) -> rusqlite::Result<bool> {
        Ok(self.dedup_entry(id)?.is_some())
    }

    /// Returns the recorded result of a request, if there is one.
    pub(super) fn dedup_entry(&self, id: uuid::Uuid) -> rusqlite::Result<Option<DedupEntry>> {
        let find = "SELECT refused FROM duroxide_dedup WHERE id = ?1";
        self.sql.row(find, [id.as_bytes()], |row| {
            Ok(match row.get_ref(0)?.as_str_or_null()? {
                None => DedupEntry::Done,
                Some(NONE) => DedupEntry::Refused(None),
                Some(_) => DedupEntry::Refused(Some(status(row, 0)?)),
            })
        })
    }

    /// Finishes the transaction: removes expired ids. `after` is the id after which the search for expired ids begins;
    /// it is set to the place where the next one begins.
    pub(super) fn finish(&mut self, after: &mut uuid::Uuid) -> rusqlite::Result<()> {
        if self.recorded > 0 {
            self.expire(after)?;
        }
        Ok(())
    }

    /// Removes some of the expired ids.
    fn expire(&self, after: &mut uuid::Uuid) -> rusqlite::Result<()> {
        let find = "SELECT id, time FROM duroxide_dedup WHERE id > ?1 ORDER BY id LIMIT ?2";
        let limit = CHECKED_PER_ID * self.recorded + 1;
        let seen = self.sql.rows(find, (after.as_bytes(), limit), |row| Ok((uuid(row, 0)?, row.get::<_, i64>(1)?)))?;
        let old = self.expiry_cutoff();
        for (id, _) in seen.iter().filter(|(_, time)| *time <= old) {
            self.sql.run("DELETE FROM duroxide_dedup WHERE id = ?1", [id.as_bytes()])?;
        }
        *after = seen.last().map_or(uuid::Uuid::nil(), |(id, _)| *id);
        Ok(())
    }
}
