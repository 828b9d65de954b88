//! Activities whose code and outcome are one transaction of `sqlx`.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::ErrorCode;
use duroxide::prelude::*;
use duroxide_postgres::{PostgresProvider, SqlxTx};
use sqlx_core::acquire::Acquire;
use sqlx_core::query::query;
use sqlx_core::query_scalar::query_scalar;
use sqlx_core::sql_str::AssertSqlSafe;
use sqlx_postgres::{PgConnectOptions, PgPool};
use support::schema::Schema;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{pool, process, schema};

static HAS_WAITED: AtomicBool = AtomicBool::new(false);
static REACHED: Notify = Notify::const_new();
static OPEN: Notify = Notify::const_new();

/// Records an effect, and then does as `how` says.
#[activity(transactional, timeout = "2s", retry(max_attempts = 2, initial_interval = "1ms"))]
async fn sqlx_debit(tx: &mut SqlxTx<'_>, ctx: ActivityContext, table: String, how: String) -> duroxide::Result<u32> {
    let insert = format!("INSERT INTO {table} (n) VALUES ($1)");
    query(AssertSqlSafe(insert.clone())).bind(1).execute(&mut **tx).await?;
    match how.as_str() {
        "fails once" if ctx.attempt() == 1 => return Err(duroxide::Error::new("declined")),
        "hangs" => std::future::pending().await,
        "waits once" if !HAS_WAITED.swap(true, Ordering::Relaxed) => {
            REACHED.notify_one();
            OPEN.notified().await;
        }
        "ignores an error" => drop(query("SELECT 1 / 0").execute(&mut **tx).await),
        "takes a part back" => {
            let mut savepoint = tx.begin().await?;
            query(AssertSqlSafe(insert)).bind(2).execute(&mut *savepoint).await?;
            savepoint.rollback().await?;
        }
        _ => {}
    }
    Ok(ctx.attempt())
}

#[orchestration]
async fn sqlx_pays(ctx: OrchestrationContext, table: String, how: String) -> duroxide::Result<u32> {
    Ok(sqlx_debit::call(&ctx, table, how).await?)
}

/// Pays as `how` says. Returns the result, and the number of the effects.
async fn pay(schema: &Schema, pool: PgPool, how: &str) -> (Result<u32, String>, i64) {
    pay_by(schema.connect(), schema, pool, how).await
}

async fn pay_by(provider: PostgresProvider, schema: &Schema, pool: PgPool, how: &str) -> (Result<u32, String>, i64) {
    let table = format!("{}.effects", schema.options().schema);
    let runtime = process(provider).state(pool).start().await.expect("start");
    schema.execute("CREATE TABLE IF NOT EXISTS effects (n integer); TRUNCATE effects");
    let handle = sqlx_pays::start(&runtime.client(), how, table.clone(), how.to_owned()).await.expect("start");
    let result = timeout(Duration::from_secs(30), handle.result()).await.expect("it ends in time");
    let count = format!("SELECT count(*) FROM {table}");
    let effects = query_scalar(AssertSqlSafe(count)).fetch_one(&super::pool()).await.expect("count");
    runtime.shutdown().await.expect("succeeds");
    (result.map_err(|error| error.to_string()), effects)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effect_and_outcome_are_committed_or_rolled_back_together() {
    let Some(schema) = schema("tx_sqlx") else { return };
    assert_eq!(pay(&schema, pool(), "works").await, (Ok(1), 1));
    assert_eq!(pay(&schema, pool(), "fails once").await, (Ok(2), 1));
    assert_eq!(pay(&schema, pool(), "takes a part back").await, (Ok(1), 1));
    let (ignored, effects) = pay(&schema, pool(), "ignores an error").await;
    assert!(ignored.unwrap_err().contains("return its error"));
    assert_eq!(effects, 0);
    let (hung, effects) = pay(&schema, pool(), "hangs").await;
    assert!(hung.unwrap_err().contains("2s"));
    assert_eq!(effects, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_of_another_database_is_refused() {
    let Some(schema) = schema("tx_sqlx_elsewhere") else { return };
    let url = support::postgres::server().expect("a server");
    let elsewhere: PgConnectOptions = url.parse().expect("a URL");
    let elsewhere = PgPool::connect_lazy_with(elsewhere.database("template1"));
    let provider = schema.connect();
    // Each pool of a provider is looked at.
    assert_eq!(pay_by(provider.clone(), &schema, pool(), "works").await, (Ok(1), 1));
    let (result, effects) = pay_by(provider, &schema, elsewhere, "fails").await;
    let error = result.unwrap_err();
    assert!(error.contains("the pool leads to another database"), "{error}");
    assert_eq!(effects, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempt_that_lost_its_fence_is_rolled_back() {
    let Some(schema) = schema("tx_sqlx_fence") else { return };
    let take_over = async {
        REACHED.notified().await;
        // The activity has another tenure, and the attempt does not know. Then the activity is free for the next claim.
        schema.execute("UPDATE activities SET claim = claim + 1000");
        OPEN.notify_one();
        let other = process(schema.connect()).start().await.expect("start");
        schema.execute("UPDATE activities SET owner = NULL");
        other
    };
    let (paid, other) = tokio::join!(pay(&schema, pool(), "waits once"), take_over);
    assert_eq!(paid, (Ok(1), 1), "one of two attempts is committed");
    other.shutdown().await.expect("succeeds");
}

#[tokio::test]
async fn runtime_without_the_pool_does_not_start() {
    let Some(schema) = schema("tx_sqlx_no_pool") else { return };
    let error = Runtime::builder().provider(schema.connect()).start().await.err().expect("it is refused");
    assert_eq!(error.code(), ErrorCode::MissingState);
    assert!(error.to_string().contains("sqlx_debit"), "{error}");
}
