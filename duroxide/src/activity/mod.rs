//! What an activity sees: its context and the state that the program gave it.

mod cancel;
mod context;
mod handler;
mod state;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use cancel::CancelSignal;
pub use context::ActivityContext;
pub(crate) use handler::{ActivityCode, Ended};
pub(crate) use state::States;
pub use state::{State, StateType};

use crate::policy::ActivityOptions;

/// An activity as its callers see it: a name, types, and how it is to be run. `#[activity]` implements it.
///
/// ```
/// use duroxide::prelude::*;
///
/// enum Double {}
/// impl Activity for Double {
///     const NAME: &'static str = "double";
///     type Input = u32;
///     type Output = u32;
///     type Error = duroxide::Error;
/// }
/// impl ActivityFn for Double {
///     async fn run(_: ActivityContext, n: u32) -> duroxide::Result<u32> {
///         Ok(n * 2)
///     }
/// }
/// let registry = duroxide::Registry::empty().with_activity::<Double>();
/// assert_eq!(registry.entries().count(), 1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity",
    note = "annotate the function with `#[activity]` and use the type of the same name"
)]
pub trait Activity: Sized + 'static {
    /// The name that is recorded: unique in a registry.
    const NAME: &'static str;
    /// The names of the parameters that make up its input, in their order: those that are neither a context nor a state. The
    /// macros give them, so that the start of a runtime can compare a contract with its code. `None`: not known.
    const PARAMETERS: Option<&'static [&'static str]> = None;
    /// What it is called with.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// What it fails with.
    type Error: Serialize + DeserializeOwned + Send + 'static;

    /// Retry and time limits that hold where a call does not set its own.
    fn options() -> ActivityOptions {
        ActivityOptions::default()
    }
}

/// An async activity with its code. `#[activity]` implements it for `async fn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async activity with its code here",
    note = "a plain `fn` is a `BlockingActivityFn`, and a contract without a body has no code; `Registry::with` takes every \
            annotated function that has a body"
)]
pub trait ActivityFn: Activity {
    /// The program states that it takes: checked when the runtime starts.
    fn requires() -> Vec<StateType> {
        Vec::new()
    }

    /// Whether another attempt may help after this error. Default: yes.
    fn is_retryable(_error: &Self::Error) -> bool {
        true
    }

    /// The function. It may be run again: after a crash, and as its retry policy says.
    fn run(ctx: ActivityContext, input: Self::Input) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// An activity that blocks its thread. `#[activity]` implements it for a plain `fn`; it runs on a pool of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a blocking activity with its code here",
    note = "an `async fn` is an `ActivityFn`, and a contract without a body has no code; `Registry::with` takes every \
            annotated function that has a body"
)]
pub trait BlockingActivityFn: Activity {
    /// The program states that it takes: checked when the runtime starts.
    fn requires() -> Vec<StateType> {
        Vec::new()
    }

    /// Whether another attempt may help after this error. Default: yes.
    fn is_retryable(_error: &Self::Error) -> bool {
        true
    }

    /// The function. It may be run again: after a crash, and as its retry policy says.
    #[expect(clippy::missing_errors_doc, reason = "they are the user's")]
    fn run(ctx: ActivityContext, input: Self::Input) -> Result<Self::Output, Self::Error>;
}
