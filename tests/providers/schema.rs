//! The schema and its version.

use duroxide::provider::{AcquiredInstance, Admin, Filter, InstanceStatus, Page, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::{ErrorCode, Payload};

use crate::child::Process;
use crate::store::{Store, node, send, submit, want};

/// The number of migrations.
const MIGRATIONS: i64 = 16;

#[test]
fn processes_that_open_a_new_file_at_once_find_one_schema() {
    for _ in 0..5 {
        let store = Store::new();
        let mut children: Vec<_> = (0..4).map(|_| Process::spawn("open", store.path())).collect();
        children.iter_mut().for_each(Process::go);
        for child in &mut children {
            child.expect("done");
        }
        let versions: (i64, i64) = store
            .raw()
            .query_row("SELECT count(*), max(version) FROM duroxide_schema", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("schema");
        assert_eq!(versions, (1, MIGRATIONS));
    }
}

/// Makes a file of the first schema, with some rows.
fn first_schema(rows: &str) -> Store {
    let store = Store::new();
    let raw = store.raw();
    raw.execute_batch(include_str!("../../duroxide/src/sqlite/schema/0001_initial.sql")).expect("the first schema");
    raw.execute_batch(
        "CREATE TABLE duroxide_schema (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL) STRICT;
         INSERT INTO duroxide_schema (id, version) VALUES (1, 1)",
    )
    .expect("the first version");
    raw.execute_batch(rows).expect("rows");
    store
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_migrated() {
    let store = first_schema(
        "INSERT INTO duroxide_instances (id, name, status, created_at, updated_at, start_id)
         VALUES ('a', 'flow', 'failed', 1, 1, randomblob(16)), ('b', 'flow', 'completed', 1, 1, randomblob(16))",
    );
    let provider = store.open();
    let failed = Filter { statuses: vec![InstanceStatus::Failed], ..Filter::default() };
    let page = provider.list(&failed, &Page::new(10)).await.expect("list");
    let ids: Vec<_> = page.instances.iter().map(|record| record.execution.instance.as_str()).collect();
    assert_eq!(ids, ["a"]);
    let version: i64 =
        store.raw().query_row("SELECT version FROM duroxide_schema", [], |row| row.get(0)).expect("version");
    assert_eq!(version, MIGRATIONS);
}

#[tokio::test]
async fn messages_of_the_first_schema_are_numbered() {
    let store = first_schema(
        "INSERT INTO duroxide_instances (seq, id, name, status, created_at, updated_at, start_id, ready_at)
         VALUES (7, 'i', 'flow', 'running', 1, 1, randomblob(16), 1), (8, 'j', 'flow', 'running', 1, 1, randomblob(16), 1);
         INSERT INTO duroxide_messages (arrival, instance, id, lane, visible_at, arrived_at, sent, format, data)
         VALUES (2, 7, randomblob(16), 2, NULL, 1, 0, 1, 'one'), (3, 8, randomblob(16), 2, NULL, 1, 0, 1, 'of j'),
                (5, 7, randomblob(16), 2, 9, 1, 0, 1, 'timer'), (6, 7, randomblob(16), 2, NULL, 1, 0, 1, 'two')",
    );
    let provider = store.open();
    submit(&provider, send("i", Payload::NULL)).await.expect("send");
    let lease = provider.join(&node()).await.expect("join");
    let mut acquired = provider.acquire(&lease, want()).await.expect("acquire").instances;
    acquired.sort_by(|a, b| a.execution.cmp(&b.execution));
    let numbers = |instance: &AcquiredInstance| instance.messages.iter().map(|m| m.number).collect::<Vec<_>>();
    let found: Vec<_> = acquired.iter().map(|instance| (numbers(instance), instance.arrivals)).collect();
    assert_eq!(found, [(vec![Some(1), Some(2), Some(3), None], 3), (vec![Some(1)], 1)]);
}

#[test]
fn crashes_of_suspended_items_are_reset() {
    let store = first_schema(
        "INSERT INTO duroxide_instances (seq, id, name, status, created_at, updated_at, start_id, crashes, suspect)
         VALUES (7, 'i', 'flow', 'suspended', 1, 1, randomblob(16), 3, 1);
         INSERT INTO duroxide_activities (instance, execution, call, scheduled, name, detached, visible_at, parked, crashes)
         VALUES (7, 1, 1, 2, 'work', 0, 1, 'why', 2)",
    );
    drop(store.open());
    let crashes = "SELECT i.crashes, i.suspect, a.crashes FROM duroxide_instances i
        JOIN duroxide_activities a ON a.instance = i.seq";
    let read = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?]);
    assert_eq!(store.raw().query_row(crashes, [], read), Ok([0, 0, 0]));
}

#[test]
fn threads_that_open_a_new_file_at_once_find_one_schema() {
    let store = Store::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| store.open());
        }
    });
}

#[test]
fn a_newer_schema_is_refused() {
    let store = Store::new();
    drop(store.open());
    store.raw().execute("UPDATE duroxide_schema SET version = 999", []).expect("update");
    let error = SqliteProvider::open(store.path()).expect_err("a refused file");
    assert!(!error.is_retryable());
    assert_eq!(error.code(), ErrorCode::SchemaNewer);
    assert!(error.to_string().contains("version 999"), "{error}");
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind() {
    let store = Store::new();
    store.raw().execute_batch("CREATE TABLE duroxide_messages (mine TEXT)").expect("create");
    for _ in 0..2 {
        let error = SqliteProvider::open(store.path()).expect_err("the name is taken");
        assert_eq!(error.operation(), "migrate the schema");
        assert!(!error.is_retryable(), "{error}");
        let count = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'duroxide%'";
        let tables: i64 = store.raw().query_row(count, [], |row| row.get(0)).expect("count");
        assert_eq!(tables, 1, "only the earlier table");
    }
    store.raw().execute_batch("DROP TABLE duroxide_messages").expect("drop");
    drop(store.open());
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let store = Store::new();
    std::fs::write(
        store.path(),
        "this is a letter, not a database; it is long enough to be read as a header".repeat(20),
    )
    .expect("write");
    let error = SqliteProvider::open(store.path()).expect_err("a refused file");
    assert!(!error.is_retryable(), "{error}");
}

#[test]
fn other_tables_in_the_file_are_not_changed() {
    let store = Store::new();
    store.raw().execute_batch("CREATE TABLE orders (id TEXT); INSERT INTO orders VALUES ('mine');").expect("create");
    drop(store.open());
    let orders: String = store.raw().query_row("SELECT id FROM orders", [], |row| row.get(0)).expect("select");
    assert_eq!(orders, "mine");
}

#[test]
fn the_views_can_be_read() {
    let store = Store::new();
    drop(store.open());
    let views = [
        "SELECT * FROM duroxide_v_instances",
        "SELECT instance, data, payload, place FROM duroxide_v_history",
        "SELECT instance, call, attempt, node, began, error FROM duroxide_v_attempts",
    ];
    for view in views {
        store.raw().execute_batch(view).expect(view);
    }
}
