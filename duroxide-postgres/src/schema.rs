//! The schema: numbered migrations. No other code creates tables.

use std::time::Duration;

use duroxide::error::ErrorCode;
use duroxide::provider::ProviderError;
use tokio_postgres::Row;

use crate::connect::{Connection, Database, step};
use crate::fault::Fault;

/// The migrations, in order. Each is applied once. The version of a program is the number of those that it knows.
///
/// A migration is additive, so that programs of earlier versions run beside it. One after which they would write, or read,
/// something wrong raises [`WRITES_FROM`], or [`READS_FROM`], to its own number; they then stop at their next renewal.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_initial.sql"),
    include_str!("schema/0002_outbox.sql"),
    include_str!("schema/0003_message_numbers.sql"),
    include_str!("schema/0004_waits.sql"),
    include_str!("schema/0005_sessions.sql"),
    include_str!("schema/0006_pauses.sql"),
    include_str!("schema/0007_compatibility.sql"),
    include_str!("schema/0008_audit.sql"),
    include_str!("schema/0009_builds.sql"),
    include_str!("schema/0010_places.sql"),
    include_str!("schema/0011_reports.sql"),
    include_str!("schema/0012_watches.sql"),
    include_str!("schema/0013_views.sql"),
    include_str!("schema/0014_tags.sql"),
    include_str!("schema/0015_causes.sql"),
];
/// The first versions that may read and write a schema with all these migrations.
const READS_FROM: usize = 1;
const WRITES_FROM: usize = 1;
const OPERATION: &str = "migrate the schema";
/// The number of attempts to get the locks of a migration.
const ATTEMPTS: u32 = 20;

/// Migrates the schema to the version of this program. Several processes may do so at once: the first one to get the lock
/// migrates, and the others find the work done. A later version is left as it is; returns false if this program may only
/// read it.
pub(crate) async fn migrate(connection: &Connection, database: &Database) -> Result<bool, ProviderError> {
    check_encoding(connection).await?;
    let mut attempt = 0;
    loop {
        match apply(connection, database).await {
            Ok(found) if found.reads_from > MIGRATIONS.len() => {
                return Err(newer(&database.schema, "open the database"));
            }
            Ok(found) => return Ok(found.writes_from <= MIGRATIONS.len()),
            // A migration must not queue for a lock for a long time, since all later requests would queue behind it.
            Err(fault) if fault.is_collision() && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(50) * attempt).await;
            }
            Err(fault) => return Err(fault.at_start(OPERATION)),
        }
    }
}

/// Refuses a database that cannot hold every text.
async fn check_encoding(connection: &Connection) -> Result<(), ProviderError> {
    let read = async {
        let rows = connection.query(step!("SELECT current_setting('server_encoding') AS encoding")).await?;
        Ok::<String, Fault>(only(&rows)?.try_get("encoding")?)
    };
    let encoding = read.await.map_err(|fault| fault.at_start(OPERATION))?;
    if encoding == "UTF8" {
        return Ok(());
    }
    let reason = format!("the database has the encoding {encoding}; create one with the encoding UTF8");
    Err(ProviderError::permanent("open the database", reason))
}

/// Returns true if this program may write a schema which versions from this one on may write.
pub(crate) fn may_write(writes_from: i32) -> bool {
    usize::try_from(writes_from).is_ok_and(|from| from <= MIGRATIONS.len())
}

/// The version of a schema, and those of the programs that may use it.
struct Found {
    version: usize,
    reads_from: usize,
    writes_from: usize,
}

/// Applies the missing migrations. Returns the version found.
async fn apply(connection: &Connection, database: &Database) -> Result<Found, Fault> {
    // Read first: a role without the right to create tables can open a database that is up to date.
    let found = version(connection, &database.schema).await?;
    if found.version >= MIGRATIONS.len() {
        return Ok(found);
    }
    let Database { schema, lock_class, .. } = database;
    // `IF NOT EXISTS` needs the right to create schemas, even if the schema exists.
    let exists = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)";
    let exists: bool = only(&connection.query(step!(exists, schema)).await?)?.try_get(0)?;
    let create = if exists { String::new() } else { format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";") };
    let begin = format!(
        "{create} CREATE TABLE IF NOT EXISTS meta (id integer PRIMARY KEY CHECK (id = 1), version integer NOT NULL);
         INSERT INTO meta (id, version) VALUES (1, 0) ON CONFLICT DO NOTHING"
    );
    let done = async {
        lock(connection, *lock_class).await?;
        connection.execute(&begin).await?;
        let found = version(connection, schema).await?;
        for migration in MIGRATIONS.iter().skip(found.version) {
            connection.execute_long(migration).await?;
        }
        if found.version < MIGRATIONS.len() {
            let update = format!(
                "UPDATE meta SET version = {}, reads_from = {READS_FROM}, writes_from = {WRITES_FROM}",
                MIGRATIONS.len()
            );
            connection.execute(&update).await?;
        }
        connection.execute("COMMIT").await?;
        Ok(found)
    };
    let done = done.await;
    if done.is_err() {
        connection.roll_back().await;
    }
    done
}

/// Begins the transaction of a migration, alone in this schema. Its statements may take any time, and so may those of the
/// process that it waits for. Its waits for the locks of tables are short.
async fn lock(connection: &Connection, class: i32) -> Result<(), Fault> {
    connection.execute("BEGIN; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0").await?;
    let attempt = connection.query(step!("SELECT pg_try_advisory_xact_lock($1, -1) AS is_free", class)).await?;
    if !only(&attempt)?.try_get::<_, bool>("is_free")? {
        tracing::info!("another process migrates the schema: waiting for its end");
        connection.execute_long(&format!("SELECT pg_advisory_xact_lock({class}, -1)")).await?;
    }
    connection.execute("SET LOCAL lock_timeout = '1s'").await
}

async fn version(connection: &Connection, schema: &str) -> Result<Found, Fault> {
    let exists = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'meta')";
    if !only(&connection.query(step!(exists, schema)).await?)?.try_get::<_, bool>(0)? {
        return Ok(Found { version: 0, reads_from: 0, writes_from: 0 });
    }
    // An early schema has the first column alone.
    let read = "SELECT version, (to_jsonb(m) ->> 'reads_from')::integer AS reads_from,
        (to_jsonb(m) ->> 'writes_from')::integer AS writes_from FROM meta m";
    let rows = connection.query(step!(read)).await?;
    let row = only(&rows)?;
    let number = |column: &str| {
        let number = row.try_get::<_, Option<i32>>(column)?.unwrap_or(0);
        Ok::<_, Fault>(usize::try_from(number).unwrap_or(usize::MAX))
    };
    Ok(Found { version: number("version")?, reads_from: number("reads_from")?, writes_from: number("writes_from")? })
}

fn only(rows: &[Row]) -> Result<&Row, Fault> {
    rows.first().ok_or_else(|| Fault::Unreadable("a statement about the schema has no answer".to_owned()))
}

/// Returns the error of a program that may not use the schema, or not write to it.
pub(crate) fn newer(schema: &str, operation: &'static str) -> ProviderError {
    let known = MIGRATIONS.len();
    let reason = format!("a newer program has changed the schema {schema:?}; this one knows version {known} of it");
    ProviderError::permanent(operation, reason).with_code(ErrorCode::SchemaNewer)
}
