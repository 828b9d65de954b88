//! Rows of PostgreSQL, in every state, as the first version of the schema holds them.

use duroxide_postgres::PostgresProvider;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::schema::Schema;
use tokio_postgres::{Client, NoTls};

use super::file::folder;

/// The first version of the schema.
const FIRST: &str = include_str!("../../../duroxide-postgres/src/schema/0001_initial.sql");
const FILE: &str = "live-postgres.jsonl";

#[derive(Serialize, Deserialize)]
struct Row {
    table: String,
    row: Value,
}

async fn database(schema: &Schema) -> Client {
    let url = support::postgres::server().expect("there is a server");
    let (database, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    database.batch_execute(&schema.within("")).await.unwrap();
    database
}

/// Creates the first version of the schema, without rows.
async fn create(schema: &Schema) -> Client {
    let database = database(schema).await;
    database.batch_execute(&format!("CREATE SCHEMA {}", schema.name())).await.unwrap();
    let meta = "CREATE TABLE meta (id integer PRIMARY KEY CHECK (id = 1), version integer NOT NULL);
        INSERT INTO meta VALUES (1, 1)";
    database.batch_execute(&format!("{FIRST}; {meta}")).await.unwrap();
    database
}

/// Makes the schema of the recorded rows, and migrates it.
pub(super) async fn migrated(schema: &Schema) -> PostgresProvider {
    let database = create(schema).await;
    for line in std::fs::read_to_string(folder().join(FILE)).unwrap().lines() {
        let Row { table, row } = serde_json::from_str(line).unwrap();
        let insert = format!("INSERT INTO {table} SELECT * FROM json_populate_record(NULL::{table}, $1::text::json)");
        database.execute(&insert, &[&row.to_string()]).await.unwrap();
    }
    let sequences =
        "SELECT setval('arrivals', (SELECT max(seq) FROM instances)), setval('epochs', (SELECT max(epoch) FROM nodes))";
    database.batch_execute(sequences).await.unwrap();
    schema.connect()
}

/// Records the rows of a schema of this version, without the columns that the first one does not have.
pub(super) async fn record(from: &Schema, first: &Schema) {
    let database = create(first).await;
    // The node that owned an instance was killed.
    let killed = "INSERT INTO nodes (epoch, id, name, build, orchestrations, activities, lease, expires_at)
        VALUES (1, '00000000-0000-4000-8000-000000000001', 'golden', 'golden', '[]', '[]', 1000000, to_timestamp(0))";
    let tables =
        "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> ALL ('{meta, nodes}') ORDER BY 1";
    let columns = "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
        WHERE table_schema = $1 AND table_name = $2";
    let mut lines = Vec::new();
    for row in database.query(tables, &[&first.name()]).await.unwrap() {
        let table: String = row.get(0);
        let columns: String = database.query_one(columns, &[&first.name(), &table]).await.unwrap().get(0);
        let copy = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {}.{table}", from.name());
        database.execute(&copy, &[]).await.unwrap();
        lines.push(table);
    }
    let owned = "UPDATE live SET owner = 1 WHERE id = 'unread-event';
        DELETE FROM ready WHERE seq = (SELECT seq FROM live WHERE owner = 1)";
    database.batch_execute(&format!("{killed}; {owned}")).await.unwrap();
    lines.push("nodes".to_owned());
    let mut text = String::new();
    for table in lines {
        for row in
            database.query(&format!("SELECT to_json(t)::text FROM {table} t ORDER BY 1::text"), &[]).await.unwrap()
        {
            let row = Row { table: table.clone(), row: serde_json::from_str(row.get(0)).unwrap() };
            text.push_str(&serde_json::to_string(&row).unwrap());
            text.push('\n');
        }
    }
    let to = folder().join(FILE);
    assert!(!to.exists(), "recorded rows are never overwritten");
    std::fs::write(to, text).unwrap();
}
