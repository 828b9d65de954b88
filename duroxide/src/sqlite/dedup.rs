//! The ids of processed requests, by which a repeated request is recognised after its row is gone.
//!
//! | id of | protects from | recorded when |
//! | --- | --- | --- |
//! | a message of a client | a repeated sending, which would store it again | it is read, or removed unread |
//! | the start of an instance | a repeated or late start, which would run the instance again | the instance is removed soon after it was created |
//! | a termination | an error for a repeated one, whose instance has ended by the first | it is carried out |
//! | a start or message that was refused when it was repeated | its first sending, which arrives later and could succeed | it is refused |
//!
//! Nothing else needs an id. Messages of nodes are sent by turns, which the last commit of their instance recognises.
//! Activities, children and messages to a removed instance name its identity, which is not used again.
//!
//! A client repeats a request for a short time, and a late request is carried out within half a minute or never. So an id
//! is kept for [`REPEAT_TIME`] at least. This time is counted in *periods*, without the clocks of nodes and without that of
//! the machine, which can be set: a period ends when a process has seen it for [`PERIOD`] by its monotonic clock. Ids that
//! are older are removed as new ones are recorded, so that their number is bounded by that of the requests in about
//! [`KEPT`] periods.

use std::time::{Duration, Instant};

use super::columns::columns;
use super::rows::{status, uuid};
use super::tx::Tx;
use crate::provider::{InstanceStatus, REPEAT_TIME};

/// The shortest duration of a period.
const PERIOD: Duration = Duration::from_secs(60);
/// The number of complete periods for which an id is kept.
const KEPT: i64 = 5;
const _: () = assert!(PERIOD.as_secs() * KEPT.unsigned_abs() >= REPEAT_TIME.as_secs());
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

/// The state of a writer that removes expired ids.
#[derive(Clone, Copy)]
pub(super) struct Expiry {
    /// The id after which the next search for expired ids begins.
    after: uuid::Uuid,
    /// The current period, and the time at which this process has first seen it.
    period: i64,
    since: Instant,
}

impl Expiry {
    pub(super) fn new(now: Instant) -> Self {
        Self { after: uuid::Uuid::nil(), period: -1, since: now }
    }
}

/// Returns true if at least [`KEPT`] complete periods lie between the two.
fn is_expired(period: i64, current: i64) -> bool {
    period + KEPT < current
}

columns! {
    mod entry { ID = "id", PERIOD = "period" }
}

impl Tx<'_> {
    /// Records that the request with this id was carried out.
    pub(super) fn record_done(&mut self, id: uuid::Uuid) -> rusqlite::Result<()> {
        self.record_as(id, None)
    }

    /// Records the start of an instance that is removed and was created in this period, unless that is so long ago that
    /// the start is no longer repeated.
    pub(super) fn record_start(&mut self, id: uuid::Uuid, period: i64) -> rusqlite::Result<()> {
        if is_expired(period, self.period()?) { Ok(()) } else { self.record_done(id) }
    }

    /// Records that the request with this id was refused, and the status of the instance that it found.
    pub(super) fn record_refused(&mut self, id: uuid::Uuid, found: Option<InstanceStatus>) -> rusqlite::Result<()> {
        self.record_as(id, Some(found.map_or(NONE, InstanceStatus::as_str)))
    }

    fn record_as(&mut self, id: uuid::Uuid, refused: Option<&str>) -> rusqlite::Result<()> {
        self.recorded += 1;
        let insert = "INSERT OR IGNORE INTO duroxide_dedup (id, period, refused)
            SELECT ?1, period, ?2 FROM duroxide_counters";
        self.sql.run(insert, (id.as_bytes(), refused)).map(drop)
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

    /// Removes some of the expired ids, if the transaction has recorded others.
    pub(super) fn expire(&self, expiry: &mut Expiry, now: Instant) -> rusqlite::Result<()> {
        if self.recorded == 0 {
            return Ok(());
        }
        self.count_period(expiry, now)?;
        let find = concat!("SELECT ", entry::list!(), " FROM duroxide_dedup WHERE id > ?1 ORDER BY id LIMIT ?2");
        let limit = CHECKED_PER_ID * self.recorded + 1;
        let read = |row: &rusqlite::Row<'_>| Ok((uuid(row, entry::ID)?, row.get::<_, i64>(entry::PERIOD)?));
        let seen = self.sql.rows(find, (expiry.after.as_bytes(), limit), read)?;
        for (id, _) in seen.iter().filter(|(_, period)| is_expired(*period, expiry.period)) {
            self.sql.run("DELETE FROM duroxide_dedup WHERE id = ?1", [id.as_bytes()])?;
        }
        expiry.after = seen.last().map_or(uuid::Uuid::nil(), |(id, _)| *id);
        Ok(())
    }

    /// Reads the current period. Ends it if this process has seen it for long enough.
    fn count_period(&self, expiry: &mut Expiry, now: Instant) -> rusqlite::Result<()> {
        let period = self.sql.row("SELECT period FROM duroxide_counters", [], |row| row.get(0))?.unwrap_or(0);
        if period != expiry.period {
            (expiry.period, expiry.since) = (period, now);
        } else if now.duration_since(expiry.since) >= PERIOD {
            self.sql.run("UPDATE duroxide_counters SET period = ?1", [period + 1])?;
            (expiry.period, expiry.since) = (period + 1, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::sqlite::schema;
    use crate::sqlite::sql::OwnSql;

    #[test]
    fn ids_are_kept_for_the_repeat_time_and_no_hour() {
        let sql = OwnSql::of(schema::in_memory());
        let begun = Instant::now();
        let mut expiry = Expiry::new(begun);
        let ids: Vec<_> = (0..1_200).map(|_| crate::id::MessageId::new().0).collect();
        for (second, id) in (0..).zip(&ids) {
            // The clock of a node is set forward by a day.
            let mut tx =
                Tx::new(sql.session(), Some(Timestamp::from_micros(if second > 900 { 86_400_000_000 } else { 0 })));
            tx.record_done(*id).unwrap();
            tx.expire(&mut expiry, begun + Duration::from_secs(second)).unwrap();
            let since = usize::try_from((second + 1).saturating_sub(REPEAT_TIME.as_secs())).unwrap();
            let now = usize::try_from(second).unwrap();
            assert!(ids[since..=now].iter().all(|id| tx.is_recorded(*id).unwrap()), "after {second} s");
        }
        let kept = sql.session().row("SELECT count(*) FROM duroxide_dedup", [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(kept < Some(600), "{kept:?} of 1,200");
        let (old, young) = (crate::id::MessageId::new().0, crate::id::MessageId::new().0);
        let mut tx = Tx::new(sql.session(), None);
        tx.record_start(old, expiry.period - KEPT - 1).unwrap();
        tx.record_start(young, expiry.period - KEPT).unwrap();
        assert_eq!((tx.is_recorded(old), tx.is_recorded(young)), (Ok(false), Ok(true)));
    }
}
