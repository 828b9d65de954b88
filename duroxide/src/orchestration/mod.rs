//! The interface of an orchestration: its context, and the futures of its durable calls.
//!
//! The files here hold options and types; [`replay`](crate::replay) makes the decisions and resolves the futures.

mod activity;
mod call;
mod cancel;
mod child;
mod combinators;
mod context;
mod continue_as_new;
mod durations;
mod event;
mod join_all;
mod race;
mod timer;
mod try_join_all;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use activity::ActivityCall;
pub use cancel::Cancelled;
pub use child::{ChildCall, DetachedStart};
pub use context::OrchestrationContext;
pub use continue_as_new::ContinueAsNew;
pub use durations::{days, hours, minutes, seconds};
pub use event::EventWait;
pub use join_all::{JoinAll, join_all};
pub use race::{Race, race};
pub use timer::Sleep;
pub use try_join_all::{TryJoinAll, try_join_all};

use crate::payload::{Input, Storable};

/// An orchestration as its callers see it: a name, a version, and types. `#[orchestration]` implements it.
///
/// ```
/// use duroxide::prelude::*;
///
/// enum Greet {}
/// impl Orchestration for Greet {
///     const NAME: &'static str = "greet";
///     type Input = String;
///     type Output = String;
///     type Error = duroxide::Error;
/// }
/// impl OrchestrationFn for Greet {
///     async fn run(ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
///         ctx.sleep(std::time::Duration::from_secs(1)).await;
///         Ok(format!("hello, {name}"))
///     }
/// }
/// let registry = duroxide::Registry::empty().with_orchestration::<Greet>();
/// assert_eq!(registry.entries().count(), 1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an orchestration",
    note = "annotate the async function with `#[orchestration]` and use the type of the same name"
)]
pub trait Orchestration: Sized + 'static {
    /// The recorded name. Name and version are unique in a registry.
    const NAME: &'static str;
    /// The version, as semver.
    const VERSION: &'static str = "1.0.0";
    /// The names of the parameters that make up its input, in their order, without the context and states. The macros
    /// set them, so that a runtime can compare a contract with its code at its start. `None`: unknown.
    const PARAMETERS: Option<&'static [&'static str]> = None;
    /// The type of its input.
    type Input: Input + Send;
    /// The type of its output.
    type Output: Storable + Send;
    /// The type of its error.
    type Error: Storable + Send;
}

/// An orchestration with its code. `#[orchestration]` implements it for a function with a body.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an orchestration with its code here",
    note = "a contract without a body has no code; `Registry::with` takes every annotated function that has a body"
)]
pub trait OrchestrationFn: Orchestration {
    /// Runs the orchestration. The function must be deterministic, and only the runtime polls it.
    fn run(
        ctx: OrchestrationContext,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// A typed external event: its name and its payload in one place. `#[event]` implements it.
///
/// ```
/// use duroxide::prelude::*;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Approval { by: String }
///
/// impl Event for Approval {
///     const NAME: &'static str = "Approval";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an external event",
    note = "annotate the type with `#[event]`"
)]
pub trait Event: Serialize + DeserializeOwned + Send + 'static {
    /// The recorded name.
    const NAME: &'static str;
}
