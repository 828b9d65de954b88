//! The places of calls in the source, each stored once.

use std::cell::RefCell;

use super::tx::Tx;
use crate::hash::HashMap;

/// The numbers of places that a connection has found. A number is never given again, and no place is removed.
#[derive(Default)]
pub(super) struct Places(RefCell<HashMap<Box<str>, i64>>);

impl Places {
    /// The places that are kept. A program has fewer; histories of other programs may have been imported.
    const LIMIT: usize = 4096;
}

/// Returns the number of a place.
pub(super) fn number(tx: &mut Tx<'_>, text: &str) -> rusqlite::Result<i64> {
    let known = tx.sql.found.places.0.borrow().get(text).copied();
    if let Some(number) = known {
        return Ok(number);
    }
    let find = "SELECT id FROM duroxide_places WHERE text = ?1";
    let Some(number) = tx.sql.row(find, [text], |row| row.get(0))? else {
        tx.sql.run("INSERT INTO duroxide_places (text) VALUES (?1)", [text])?;
        tx.has_new_places = true;
        return Ok(tx.sql.connection().last_insert_rowid());
    };
    // A number that this transaction has given is not kept, since the transaction may be undone.
    if !tx.has_new_places {
        let mut places = tx.sql.found.places.0.borrow_mut();
        if places.len() >= Places::LIMIT {
            places.clear();
        }
        places.insert(text.into(), number);
    }
    Ok(number)
}
