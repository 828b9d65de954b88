//! State of [Duroxide](duroxide) in PostgreSQL, for programs that run on several machines.
//!
//! Call [`.postgres(url)`](PostgresRuntime::postgres) on the builder of a runtime. User code does not change. The page
//! [PostgreSQL] explains the set-up of the database.
//!
//! [PostgreSQL]: https://github.com/duroxide/duroxide/blob/main/docs/postgres.md
//!
//! ```no_run
//! use duroxide::prelude::*;
//! use duroxide_postgres::PostgresRuntime;
//!
//! #[orchestration]
//! async fn hello(_: OrchestrationContext, name: String) -> duroxide::Result<String> {
//!     Ok(format!("hello, {name}"))
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> duroxide::Result<()> {
//!     let runtime = Runtime::builder().postgres("postgres://localhost/app").start().await?;
//!     let handle = hello::start(&runtime.client(), "first", "world".to_owned()).await?;
//!     println!("{}", handle.result().await?);
//!     runtime.shutdown().await?;
//!     Ok(())
//! }
//! ```
//!
//! One thread owns all connections of a provider. It combines waiting commits and submissions into transactions of one
//! or two round trips (`batch`), and answers requests for work on a connection of its own (`acquire`). The lease of a node is a
//! row that it renews (`members`). Processes notify each other by NOTIFY (`notify`).

mod acquire;
mod admin;
mod again;
mod attempts;
mod audit;
mod batch;
mod builder;
mod clock;
mod connect;
mod events;
mod fault;
mod groups;
mod handle;
mod hosts;
mod instance_rows;
mod lane;
mod link;
mod listen;
mod members;
mod notify;
mod options;
mod outbox;
mod pooled;
mod previews;
mod provider;
mod pulse;
mod queue;
mod reads;
mod remove;
mod rollout;
mod rows;
mod schema;
mod search;
mod session;
mod sessionless;
mod settings;
mod state;
#[cfg(feature = "tls")]
mod tls;
mod transaction;
mod watches;
mod within;
mod work;

pub use builder::{PostgresClient, PostgresRuntime};
pub use options::PostgresOptions;
pub use provider::PostgresProvider;
#[cfg(feature = "sqlx")]
pub use transaction::{Sqlx, SqlxTx};
pub use transaction::{TokioPostgres, Tx};
pub use within::{By, Postgres, Quiet, SqlError, SqlTransaction, SqlValue};

/// The page of the book, so that its code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/postgres.md")]
struct Page;

/// Its code is that of every driver.
#[cfg(all(doctest, feature = "sqlx"))]
#[doc = include_str!("../../docs/transaction-example.md")]
struct Transactions;
