//! PostgreSQL under several processes and broken connections.
//!
//! Each provider here has its own connections and its own signals, as that of another process has. Without a server, the
//! tests are left out; see [`support::postgres`].

mod changes;
mod chaos;
mod contention;
mod counts;
mod direct;
mod explorer;
mod faults;
mod groups;
mod looks;
mod networks;
mod node_process;
mod page;
mod pairs;
mod panics;
mod plans;
mod poolers;
mod processes;
mod pulses;
mod rings;
mod roles;
mod sessions;
mod tags;
mod tls;
mod together;
mod transactional;
mod transactional_sqlx;
mod within;

use duroxide::RuntimeBuilder;
use duroxide::prelude::*;
use duroxide_postgres::PostgresProvider;
use sqlx_postgres::PgPool;
use support::schema::Schema;

#[activity]
async fn pg_double(n: u32) -> duroxide::Result<u32> {
    Ok(2 * n)
}

/// Calls an activity a few times, one after another.
#[orchestration]
async fn pg_chain(ctx: OrchestrationContext, calls: u32) -> duroxide::Result<u32> {
    let mut sum = 0;
    for n in 0..calls {
        sum += pg_double::call(&ctx, n).await?;
    }
    Ok(sum)
}

#[event]
struct PgNumber(u32);

/// Adds the numbers of some events.
#[orchestration]
async fn pg_sum(ctx: OrchestrationContext, events: u32) -> duroxide::Result<u32> {
    let mut sum = 0;
    for _ in 0..events {
        sum += ctx.event::<PgNumber>().await.0;
    }
    Ok(sum)
}

/// Returns the builder of a process that runs the orchestrations of this binary.
fn process(provider: PostgresProvider) -> RuntimeBuilder {
    Runtime::builder().provider(provider).state(pool())
}

/// Returns a pool of `sqlx`, which the transactional activities of this binary need. It opens no connection until one is used.
fn pool() -> PgPool {
    let url = support::postgres::server().unwrap_or("postgres://127.0.0.1:1/none");
    PgPool::connect_lazy(url).expect("the URL is valid")
}

/// Returns a schema for a test, or `None` if there is no server.
fn schema(name: &str) -> Option<Schema> {
    support::postgres::server().map(|url| Schema::new(url, name))
}
