//! Bounds of time as bounds of arrival.

use rusqlite::Row;

use crate::clock::Timestamp;
use crate::sqlite::columns::columns;
use crate::sqlite::sql::Sql;

/// The most that the clocks which set `created_at` and `finished_at` may differ from each other or jump. A bound of
/// time is converted to a bound of arrival with this slack on both sides; rows within the slack are compared with the
/// bound itself.
pub(in crate::sqlite) const CLOCKS: i64 = 24 * 3_600_000_000;

/// Returns a bound of arrival: all instances that were created or finished before a time are below it.
pub(in crate::sqlite) fn arrived_by(sql: &Sql, before: Timestamp) -> rusqlite::Result<i64> {
    first_since(sql, before.as_micros().saturating_add(2 * CLOCKS))
}

columns! {
    mod ends {
        FIRST = "coalesce((SELECT min(seq) FROM duroxide_instances), 0)",
        LAST = "coalesce((SELECT max(seq) FROM duroxide_instances), 0)",
    }
}

columns! {
    mod instance { SEQ = "seq", CREATED_AT = "created_at" }
}

/// Finds, by bisection, an arrival number whose instance was created at a time or later, while its predecessor was
/// created earlier.
///
/// Times of creation rise only roughly with the arrival numbers, so there may be several such numbers. Any of them is
/// exact enough: if each clock differs from the true time by less than [`CLOCKS`], the instances below it arrived
/// before the time plus that slack, and the others arrived after the time minus that slack. So a bound that is moved by
/// twice [`CLOCKS`] excludes no match.
pub(super) fn first_since(sql: &Sql, time: i64) -> rusqlite::Result<i64> {
    let find = concat!("SELECT ", ends::list!());
    let found = sql.row(find, [], |row| Ok((row.get::<_, i64>(ends::FIRST)?, row.get::<_, i64>(ends::LAST)?)))?;
    let (mut low, last) = found.unwrap_or_default();
    let find = concat!(
        "SELECT ",
        instance::list!(),
        " FROM duroxide_instances WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT 1"
    );
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(instance::SEQ)?, row.get::<_, i64>(instance::CREATED_AT)?));
    let mut high = last.saturating_add(1);
    while low < high {
        let middle = low + (high - low) / 2;
        match sql.row(find, (middle, high), read)? {
            Some((seq, created)) if created < time => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
