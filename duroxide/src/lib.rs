//! Durable execution for Rust: async functions that survive crashes, deploys and months of waiting.
//!
//! Annotate a function that does real work with [`#[activity]`](activity), one that coordinates with
//! [`#[orchestration]`](orchestration), and start a [`Runtime`]. It discovers all annotated functions. Every completed
//! step is recorded and never repeated: after a crash, the orchestration is *replayed* from the record up to the point
//! that it had reached.
//!
//! ```no_run
//! use duroxide::prelude::*;
//!
//! #[activity]
//! async fn greet(name: String) -> duroxide::Result<String> {
//!     Ok(format!("hello, {name}"))
//! }
//!
//! #[orchestration]
//! async fn hello(ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
//!     let greeting = greet::call(&ctx, name).await?;
//!     ctx.sleep(days(30)).await; // the process may restart in this time
//!     Ok(greeting)
//! }
//!
//! #[tokio::main]
//! async fn main() -> duroxide::Result<()> {
//!     let runtime = Runtime::builder().sqlite("hello.db").start().await?;
//!     let handle = hello::start(&runtime.client(), "first", "world".to_owned()).await?;
//!     println!("{}", handle.result().await?);
//!     runtime.shutdown().await?;
//!     Ok(())
//! }
//! ```
//!
//! The main types:
//!
//! - [`OrchestrationContext`]: the operations of an orchestration: call activities and other orchestrations, wait for
//!   timers and events, continue as new.
//! - [`Client`] and [`Handle`]: start instances, send events to them, wait for them, list and delete them.
//! - [`Runtime`] and [`RuntimeOptions`]: run the functions.
//! - [`Registry`]: select the functions to run.
//! - [`Error`], [`CallError`] and [`OutcomeError`]: the errors of user functions, durable calls and instances.
//! - [`ClientError`] and [`StartError`]: the errors of requests and starts, with stable [codes](ErrorCode).
//!
//! The [`prelude`] exports the names that almost every program uses. All other names are in modules, one for each
//! subject: [`provider`] and [`id`] for other databases, [`history`] and [`payload`] for recorded events and their
//! values, `testing` for tests (a feature).

#[doc(hidden)]
pub mod __private;
mod activity;
mod backoff;
#[cfg(doctest)]
mod book;
pub mod client;
pub mod clock;
mod effect;
pub mod error;
pub mod future;
mod hash;
pub mod history;
pub mod id;
mod message;
mod node;
mod orchestration;
pub mod payload;
mod policy;
pub mod prelude;
pub mod provider;
mod random;
pub mod registry;
mod replay;
pub mod runtime;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transfer;

pub use activity::{
    Activity, ActivityContext, ActivityFn, BlockingActivityFn, BlockingTransactionalFn, State, TransactionalFn,
};
#[doc(inline)]
pub use client::{Client, ClientError, Handle, OutcomeError, Status};
#[doc(inline)]
pub use clock::Timestamp;
#[doc(inline)]
pub use error::{CallError, Error, ErrorCode, Result};
#[doc(inline)]
pub use id::InstanceId;
pub use orchestration::{Event, Orchestration, OrchestrationContext, OrchestrationFn, days, hours, minutes, seconds};
#[doc(inline)]
pub use payload::{Bytes, Payload};
pub use policy::{ActivityOptions, ClosePolicy, RetryPolicy, Timeout};
#[doc(inline)]
pub use provider::{Filter, IfExists, InstanceStatus};
#[doc(inline)]
pub use registry::Registry;
#[doc(inline)]
pub use runtime::{Runtime, RuntimeBuilder, RuntimeOptions, StartError};

/// Turns a function into an activity: real work, with a typed and recorded call.
///
/// ```
/// use duroxide::prelude::*;
///
/// /// Charges the card of an order.
/// #[activity(timeout = "30s", retry(max_attempts = 5))]
/// async fn charge(order: u32, cents: u64) -> duroxide::Result<String> {
///     Ok(format!("order {order}: {cents} cents"))
/// }
///
/// #[orchestration]
/// async fn checkout(ctx: OrchestrationContext, order: u32) -> duroxide::Result<String> {
///     Ok(charge::call(&ctx, order, 1999).timeout(minutes(1)).await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> duroxide::Result<()> {
/// // The function can still be called directly.
/// assert_eq!(charge(17, 1999).await?, "order 17: 1999 cents");
/// assert_eq!(charge::NAME, "charge");
/// # Ok(())
/// # }
/// ```
///
pub use duroxide_macros::activity;

/// Turns a type into an external event, which a client raises and an orchestration awaits.
///
/// ```
/// use duroxide::prelude::*;
///
/// #[event]
/// struct Approval { by: String }
///
/// #[orchestration]
/// async fn publish(ctx: OrchestrationContext) -> duroxide::Result<String> {
///     Ok(ctx.event::<Approval>().await.by)
/// }
///
/// async fn approve(client: &Client) -> duroxide::Result<()> {
///     publish::handle(client, "article-7").raise(Approval { by: "Ada".to_owned() }).await?;
///     Ok(())
/// }
/// ```
///
pub use duroxide_macros::event;

/// Turns an async function into an orchestration, which can be started, called as a child, and continued as new.
///
/// ```
/// use duroxide::prelude::*;
///
/// #[activity]
/// async fn remind(user: String) -> duroxide::Result<()> {
///     println!("dear {user}");
///     Ok(())
/// }
///
/// #[orchestration(version = "1.1.0")]
/// async fn reminder(ctx: OrchestrationContext, user: String) -> duroxide::Result<()> {
///     ctx.sleep(days(7)).await;
///     Ok(remind::call(&ctx, user).await?)
/// }
///
/// async fn start(client: &Client) -> duroxide::Result<()> {
///     reminder::start(client, "reminder-ada", "Ada".to_owned()).label("user", "Ada").await?;
///     Ok(())
/// }
/// ```
///
pub use duroxide_macros::orchestration;
