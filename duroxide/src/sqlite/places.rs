//! The places of calls in the source, each stored once.

use super::sql::Sql;

/// Returns the number of a place. No number is kept in memory, since the transaction that has given it may be undone.
pub(super) fn number(sql: &Sql, text: &str) -> rusqlite::Result<i64> {
    let find = "SELECT id FROM duroxide_places WHERE text = ?1";
    if let Some(number) = sql.row(find, [text], |row| row.get(0))? {
        return Ok(number);
    }
    sql.run("INSERT INTO duroxide_places (text) VALUES (?1)", [text])?;
    Ok(sql.connection().last_insert_rowid())
}
