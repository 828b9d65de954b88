//! The storage of payloads: small ones in the row that they belong to, large ones once per instance.

use std::hash::{DefaultHasher, Hasher};

use super::sql::Sql;
use crate::payload::Payload;

/// The length up to which a payload is stored in its row. A longer one would leave the page anyway.
const INLINE: usize = 1000;

/// A payload in two columns. Both `None` means JSON's null.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) inline: Option<&'a [u8]>,
    pub(super) reference: Option<i64>,
}

/// Returns the columns of a payload. Stores a long payload first, unless the instance already has it.
pub(super) fn store<'a>(sql: &Sql, instance: i64, payload: &'a Payload) -> rusqlite::Result<Columns<'a>> {
    if payload.is_null() {
        return Ok(Columns::default());
    }
    let bytes = payload.as_bytes();
    if bytes.len() <= INLINE {
        return Ok(Columns { inline: Some(bytes), reference: None });
    }
    let hash = hash(bytes);
    let find = "SELECT id FROM duroxide_payloads WHERE instance = ?1 AND hash = ?2 AND data = ?3";
    let found = sql.row(find, (instance, hash, bytes), |row| row.get(0))?;
    let reference = match found {
        Some(id) => id,
        None => {
            let insert = "INSERT INTO duroxide_payloads (instance, hash, data) VALUES (?1, ?2, ?3)";
            sql.run(insert, (instance, hash, bytes))?;
            sql.connection().last_insert_rowid()
        }
    };
    Ok(Columns { inline: None, reference: Some(reference) })
}

/// Removes a long payload, unless it has a reference.
pub(super) fn remove_unreferenced(sql: &Sql, payload: i64) -> rusqlite::Result<()> {
    let delete = "DELETE FROM duroxide_payloads WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM duroxide_events WHERE payload_ref = ?1)
        AND NOT EXISTS (SELECT 1 FROM duroxide_messages WHERE payload_ref = ?1)";
    sql.run(delete, [payload]).map(drop)
}

/// Hashes a payload. The hash is only a hint: a version of Rust with another hasher finds fewer duplicates, but never a
/// wrong one.
fn hash(bytes: &[u8]) -> i64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().cast_signed()
}
