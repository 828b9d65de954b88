//! The schema: numbered migrations. No other code creates tables.

use std::time::Duration;

use duroxide::error::ErrorCode;
use duroxide::provider::ProviderError;

use crate::connect::{Connection, Database};
use crate::fault::Fault;

/// The migrations, in order. Each is applied once, and is additive, so that nodes of the version before can run beside it.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_initial.sql"),
    include_str!("schema/0002_outbox.sql"),
    include_str!("schema/0003_pauses.sql"),
    include_str!("schema/0004_audit.sql"),
];
const OPERATION: &str = "migrate the schema";
/// The number of attempts to get the locks of a migration.
const ATTEMPTS: u32 = 20;

/// Migrates the schema to the version of this program. Several processes may do so at once: the first one to get the lock
/// migrates, and the others find the work done.
pub(crate) async fn migrate(connection: &Connection, database: &Database) -> Result<(), ProviderError> {
    check_encoding(connection).await?;
    let mut attempt = 0;
    loop {
        match apply(connection, database).await {
            Ok(found) if found > MIGRATIONS.len() => return Err(newer(&database.schema, found)),
            Ok(_) => return Ok(()),
            // A migration must not queue for a lock for long, since all later requests would queue behind it.
            Err(fault) if fault.is_collision() && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(50) * attempt).await;
            }
            Err(fault) => return Err(fault.of(OPERATION)),
        }
    }
}

/// Refuses a database that cannot hold every text.
async fn check_encoding(connection: &Connection) -> Result<(), ProviderError> {
    let read = async {
        let row = connection.client.query_one("SELECT current_setting('server_encoding') AS encoding", &[]).await?;
        Ok::<String, Fault>(row.try_get("encoding")?)
    };
    let encoding = read.await.map_err(|fault| fault.of(OPERATION))?;
    if encoding == "UTF8" {
        return Ok(());
    }
    let reason = format!("the database has the encoding {encoding}; create one with the encoding UTF8");
    Err(ProviderError::permanent("open the database", reason))
}

/// Applies the missing migrations. Returns the version found.
async fn apply(connection: &Connection, database: &Database) -> Result<usize, Fault> {
    // Read first: a role without the right to create tables can open a database that is up to date.
    let found = version(connection, &database.schema).await?;
    if found >= MIGRATIONS.len() {
        return Ok(found);
    }
    let Database { schema, lock_class, .. } = database;
    // `IF NOT EXISTS` needs the right to create schemas, also if the schema exists.
    let exists = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)";
    let exists: bool = connection.client.query_one(exists, &[schema]).await?.try_get(0)?;
    let create = if exists { String::new() } else { format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";") };
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = '1s'; SELECT pg_advisory_xact_lock({lock_class}, -1); {create}
         CREATE TABLE IF NOT EXISTS meta (id integer PRIMARY KEY CHECK (id = 1), version integer NOT NULL);
         INSERT INTO meta (id, version) VALUES (1, 0) ON CONFLICT DO NOTHING"
    );
    let done = async {
        connection.client.batch_execute(&begin).await?;
        let found = version(connection, schema).await?;
        for migration in MIGRATIONS.iter().skip(found) {
            connection.client.batch_execute(migration).await?;
        }
        if found < MIGRATIONS.len() {
            let update = format!("UPDATE meta SET version = {}", MIGRATIONS.len());
            connection.client.batch_execute(&update).await?;
        }
        connection.client.batch_execute("COMMIT").await?;
        Ok(found)
    };
    let done = done.await;
    if done.is_err() {
        // If this fails, the connection is closed, which has the same effect.
        let _ = connection.client.batch_execute("ROLLBACK").await;
    }
    done
}

async fn version(connection: &Connection, schema: &str) -> Result<usize, Fault> {
    let exists = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'meta')";
    if !connection.client.query_one(exists, &[&schema]).await?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let version: i32 = connection.client.query_one("SELECT version FROM meta", &[]).await?.try_get(0)?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn newer(schema: &str, found: usize) -> ProviderError {
    let known = MIGRATIONS.len();
    let reason = format!(
        "the schema {schema:?} has version {found}, but this program supports versions up to {known}; use a newer program"
    );
    ProviderError::permanent("open the database", reason).with_code(ErrorCode::SchemaNewer)
}
