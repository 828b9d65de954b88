//! A write transaction, and what is to be told once it is durable.

use std::time::{Duration, SystemTime};

use super::rows::{int, status, uuid};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::provider::{InstanceStatus, Signals};

/// How long what was done is remembered once it is gone.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How many remembered ids are looked at for each that is added; more than one, so that they do not pile up.
const FORGET: i64 = 4;
/// Stands for the status of an instance that is not there.
const NONE: &str = "none";

/// What became of what is sent again.
pub(super) enum Remembered {
    /// It was carried out.
    Done,
    /// It was refused, because of an instance with this status, or because there was none.
    Refused(Option<InstanceStatus>),
}

pub(super) struct Tx<'a> {
    pub(super) sql: &'a Sql,
    /// The latest time that a call named, if one did.
    pub(super) seen: Option<Timestamp>,
    /// What others are to be told once it is durable.
    pub(super) signals: Signals,
    /// How many ids it has added.
    remembered_now: i64,
}

impl<'a> Tx<'a> {
    pub(super) fn new(sql: &'a Sql, seen: Option<Timestamp>) -> Self {
        Self { sql, seen, signals: Signals::default(), remembered_now: 0 }
    }

    pub(super) fn saw(&mut self, time: Timestamp) {
        self.seen = self.seen.max(Some(time));
    }

    /// The time of what names none: the latest that was seen; before the first, that of the operating system.
    pub(super) fn latest(&self) -> Timestamp {
        self.seen.unwrap_or_else(|| SystemTime::now().into())
    }

    /// Remembers that it was carried out.
    pub(super) fn remember(&mut self, id: uuid::Uuid) -> rusqlite::Result<()> {
        self.remember_as(id, None)
    }

    /// Remembers that it was refused, and what was there instead of a fitting instance.
    pub(super) fn remember_refused(&mut self, id: uuid::Uuid, found: Option<InstanceStatus>) -> rusqlite::Result<()> {
        self.remember_as(id, Some(found.map_or(NONE, InstanceStatus::as_str)))
    }

    fn remember_as(&mut self, id: uuid::Uuid, refused: Option<&str>) -> rusqlite::Result<()> {
        self.remembered_now += 1;
        let insert = "INSERT OR IGNORE INTO duroxide_dedup (id, time, refused) VALUES (?1, ?2, ?3)";
        self.sql.run(insert, (id.as_bytes(), self.latest().as_micros(), refused)).map(drop)
    }

    /// The time before which nothing need be remembered.
    fn long_ago(&self) -> i64 {
        self.latest().as_micros().saturating_sub(int(REMEMBERED.as_secs()).saturating_mul(1_000_000))
    }

    pub(super) fn is_remembered(&self, id: uuid::Uuid) -> rusqlite::Result<bool> {
        Ok(self.remembered(id)?.is_some())
    }

    /// What became of it, if it is remembered.
    pub(super) fn remembered(&self, id: uuid::Uuid) -> rusqlite::Result<Option<Remembered>> {
        let find = "SELECT refused, refused IS NULL, refused = ?2 FROM duroxide_dedup WHERE id = ?1";
        self.sql.row(find, (id.as_bytes(), NONE), |row| {
            Ok(match (row.get(1)?, row.get(2)?) {
                (true, _) => Remembered::Done,
                (_, Some(true)) => Remembered::Refused(None),
                _ => Remembered::Refused(Some(status(row, 0)?)),
            })
        })
    }

    /// Writes what the whole transaction wrote one by one. `forget`: behind which id old ones are looked for, next time.
    pub(super) fn finish(&mut self, forget: &mut uuid::Uuid) -> rusqlite::Result<()> {
        if self.remembered_now > 0 {
            self.forget(forget)?;
        }
        Ok(())
    }

    /// Removes some of what was remembered long enough.
    fn forget(&self, behind: &mut uuid::Uuid) -> rusqlite::Result<()> {
        let look = "SELECT id, time FROM duroxide_dedup WHERE id > ?1 ORDER BY id LIMIT ?2";
        let limit = FORGET * self.remembered_now + 1;
        let seen = self.sql.rows(look, (behind.as_bytes(), limit), |row| Ok((uuid(row, 0)?, row.get::<_, i64>(1)?)))?;
        let old = self.long_ago();
        for (id, _) in seen.iter().filter(|(_, time)| *time <= old) {
            self.sql.run("DELETE FROM duroxide_dedup WHERE id = ?1", [id.as_bytes()])?;
        }
        *behind = seen.last().map_or(uuid::Uuid::nil(), |(id, _)| *id);
        Ok(())
    }
}
