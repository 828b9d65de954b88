//! The schema: that of a new database, and numbered migrations for older ones. No other code creates tables.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::ErrorCode;
use crate::provider::ProviderError;

use super::fault::storage;

/// The schema after all migrations, which a new database gets at once.
const CURRENT: &str = include_str!("schema/current.sql");
/// The migrations, in order. Each is applied once, and is not changed after a release. A new one also changes [`CURRENT`].
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_initial.sql"),
    include_str!("schema/0002_lists.sql"),
    include_str!("schema/0003_headers.sql"),
    include_str!("schema/0004_numbers.sql"),
    include_str!("schema/0005_rollouts.sql"),
    include_str!("schema/0006_ends.sql"),
    include_str!("schema/0007_costs.sql"),
    include_str!("schema/0008_record.sql"),
    include_str!("schema/0009_waits.sql"),
    include_str!("schema/0010_pauses.sql"),
    include_str!("schema/0011_audit.sql"),
    include_str!("schema/0012_builds.sql"),
    include_str!("schema/0013_reports.sql"),
    include_str!("schema/0014_views.sql"),
    include_str!("schema/0015_tags.sql"),
    include_str!("schema/0016_causes.sql"),
];

/// Migrates the schema to the version of this program. Several processes may do so at once: the first one to get the
/// write lock migrates, and the others find the work done.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), ProviderError> {
    let failed = |e| storage("migrate the schema", e);
    if version(connection).map_err(failed)? == MIGRATIONS.len() {
        return Ok(());
    }
    let write = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    write
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS duroxide_schema (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL) STRICT;
             INSERT OR IGNORE INTO duroxide_schema (id, version) VALUES (1, 0);",
        )
        .map_err(failed)?;
    let found = version(&write).map_err(failed)?;
    if found > MIGRATIONS.len() {
        return Err(newer(found));
    }
    match found {
        0 => write.execute_batch(CURRENT),
        found => MIGRATIONS.iter().skip(found).try_for_each(|migration| write.execute_batch(migration)),
    }
    .map_err(failed)?;
    write
        .execute("UPDATE duroxide_schema SET version = ?1", [i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)])
        .map_err(failed)?;
    write.commit().map_err(failed)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'duroxide_schema')";
    if !connection.query_row(exists, [], |row| row.get::<_, bool>(0))? {
        return Ok(0);
    }
    let version: i64 = connection.query_row("SELECT version FROM duroxide_schema", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn newer(found: usize) -> ProviderError {
    let known = MIGRATIONS.len();
    let reason = format!(
        "its schema has version {found}, but this program supports versions up to {known}; use a newer program"
    );
    ProviderError::permanent("open the database", reason).with_code(ErrorCode::SchemaNewer)
}

/// Opens a database in memory with all tables, for tests of single statements.
#[cfg(test)]
pub(super) fn in_memory() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    connection
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migrated() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        MIGRATIONS.iter().for_each(|migration| connection.execute_batch(migration).unwrap());
        connection
    }

    /// Returns each row as a text.
    fn rows(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap())).collect::<Vec<_>>().join(" "))
        };
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn new_database_has_the_schema_of_a_migrated_one() {
        let (new, migrated) = (in_memory(), migrated());
        for facts in [
            // The texts of tables differ: a migration appends columns without their comments.
            "SELECT t.name, t.type, t.wr, t.strict, c.* FROM pragma_table_list t, pragma_table_xinfo(t.name) c
             WHERE t.name LIKE 'duroxide%' AND t.name <> 'duroxide_schema' ORDER BY t.name, c.cid",
            "SELECT type, name, tbl_name, replace(replace(sql, char(10), ''), ' ', '') FROM sqlite_schema
             WHERE type <> 'table' ORDER BY name",
            "SELECT * FROM duroxide_counters",
        ] {
            assert_eq!(rows(&new, facts), rows(&migrated, facts), "{facts}");
        }
    }
}
