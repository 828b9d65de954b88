//! The interface of an activity: its context, and the state that the program provides.

mod cancel;
mod context;
mod handler;
mod state;
mod transaction;

use std::future::Future;

pub(crate) use cancel::CancelSignal;
pub use context::ActivityContext;
pub(crate) use handler::{ActivityCode, Ended};
pub(crate) use state::States;
pub use state::{ProgramState, State, StateType};
pub use transaction::{BlockingTransactionalFn, TransactionalFn};
pub(crate) use transaction::{LIMIT as TRANSACTION_LIMIT, required_states};

use crate::payload::{Input, Storable};
use crate::policy::ActivityOptions;

/// An activity as its callers see it: a name, types and default options. `#[activity]` implements it.
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
    /// The recorded name: unique in a registry.
    const NAME: &'static str;
    /// The names of the parameters that make up its input, in their order, without the context and states. The macros
    /// set them, so that a runtime can compare a contract with its code at its start. `None`: unknown.
    const PARAMETERS: Option<&'static [&'static str]> = None;
    /// The type of its input.
    type Input: Input + Send;
    /// The type of its output.
    type Output: Storable + Send;
    /// The type of its error.
    type Error: Storable + Send;

    /// Returns the retry policy and the time limits of calls that do not set their own.
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
    /// Returns the types of the program state that it takes; checked when the runtime starts.
    fn requires() -> Vec<StateType> {
        Vec::new()
    }

    /// Returns true if another attempt may succeed after this error. Default: true.
    fn is_retryable(_error: &Self::Error) -> bool {
        true
    }

    /// Runs one attempt. It may run again after a crash, or by its retry policy.
    fn run(ctx: ActivityContext, input: Self::Input) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// An activity that blocks its thread, with its code. `#[activity]` implements it for a plain `fn`. It runs on a
/// separate pool of threads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a blocking activity with its code here",
    note = "an `async fn` is an `ActivityFn`, and a contract without a body has no code; `Registry::with` takes every \
            annotated function that has a body"
)]
pub trait BlockingActivityFn: Activity {
    /// Returns the types of the program state that it takes; checked when the runtime starts.
    fn requires() -> Vec<StateType> {
        Vec::new()
    }

    /// Returns true if another attempt may succeed after this error. Default: true.
    fn is_retryable(_error: &Self::Error) -> bool {
        true
    }

    /// Runs one attempt. It may run again after a crash, or by its retry policy.
    #[expect(clippy::missing_errors_doc, reason = "the errors are the user's own")]
    fn run(ctx: ActivityContext, input: Self::Input) -> Result<Self::Output, Self::Error>;
}
