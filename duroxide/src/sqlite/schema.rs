//! The schema: numbered migrations. No other code creates tables.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::ErrorCode;
use crate::provider::ProviderError;

use super::fault::storage;

/// The migrations, in order. Each is applied once.
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
    for migration in MIGRATIONS.iter().skip(found) {
        write.execute_batch(migration).map_err(failed)?;
    }
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
