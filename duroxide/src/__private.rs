//! The items that macro expansions name. Not part of the public interface.

pub use ::inventory;
pub use ::serde;
pub use ::std::any::TypeId;
pub use ::std::vec::Vec;
pub use ::tokio;

pub use crate::activity::{
    Activity, ActivityContext, ActivityFn, BlockingActivityFn, BlockingTransactionalFn, ProgramState, StateType,
    TransactionalFn,
};
pub use crate::client::{Client, Handle, StartCall};
pub use crate::orchestration::{
    ActivityCall, ChildCall, ContinueAsNew, Event, Orchestration, OrchestrationContext, OrchestrationFn,
};
pub use crate::payload::encoded::Encoded;
pub use crate::payload::inputs::InputReader;
pub use crate::payload::read_error::ReadError;
pub use crate::payload::{Input, Payload, Storable};
pub use crate::policy::{ActivityOptions, RetryPolicy};
pub use crate::provider::{ActivityTransaction, BlockingTransactionSource, TransactionSource};
pub use crate::registry::Place;
pub use crate::registry::contract::Contract;
pub use crate::registry::descriptor::{Annotated, Descriptor};
pub use crate::registry::event::EventType;

use std::panic::Location;

use crate::payload::encode_input;
use crate::replay::direct_call::{self, Callee};

/// The derives that `#[event]` adds. Its name is in the error of an event that also has them above `#[event]`.
pub mod derived_unless_below_event {
    pub use ::duroxide_macros::{EventDeserialize as Deserialize, EventSerialize as Serialize};

    /// The derives of an event with attributes of serde.
    pub mod with_attributes {
        pub use ::serde::{Deserialize, Serialize};
    }
}

/// The types of a `Result`, including one behind an alias.
#[diagnostic::on_unimplemented(
    message = "the function must return `Result<T, E>`, not `{Self}`",
    note = "`duroxide::Result<T>` is for functions that need no error type of their own"
)]
pub trait ResultTypes {
    /// The type in `Ok`.
    type Ok;
    /// The type in `Err`.
    type Err;
}

impl<T, E> ResultTypes for Result<T, E> {
    type Ok = T;
    type Err = E;
}

/// The context of an activity, under any name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the context of an activity",
    label = "a first parameter called `ctx` is the context",
    note = "write `ctx: ActivityContext`, or give an input another name"
)]
pub trait IsActivityContext {
    /// Returns the context.
    fn of(ctx: ActivityContext) -> Self;
}

impl IsActivityContext for ActivityContext {
    fn of(ctx: ActivityContext) -> Self {
        ctx
    }
}

/// The context of an orchestration, under any name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the context of an orchestration",
    label = "a first parameter called `ctx` is the context",
    note = "write `ctx: OrchestrationContext`, and put inputs after it"
)]
pub trait IsOrchestrationContext {
    /// Returns the context.
    fn of(ctx: OrchestrationContext) -> Self;
}

impl IsOrchestrationContext for OrchestrationContext {
    fn of(ctx: OrchestrationContext) -> Self {
        ctx
    }
}

/// Calls an activity.
#[track_caller]
pub fn call_activity<A: Activity>(ctx: &OrchestrationContext, input: &A::Input) -> ActivityCall<A::Output, A::Error> {
    ActivityCall::new(&ctx.core, A::NAME, ctx.core.encode_input(input), A::options(), Location::caller())
}

/// Calls an orchestration as a child.
#[track_caller]
pub fn call_orchestration<O: Orchestration>(
    ctx: &OrchestrationContext,
    input: &O::Input,
) -> ChildCall<O::Output, O::Error> {
    ChildCall::new(&ctx.core, O::NAME, ctx.core.encode_input(input), Location::caller())
}

/// Continues as new.
#[track_caller]
pub fn continue_as_new<O: Orchestration>(
    ctx: &OrchestrationContext,
    input: &O::Input,
) -> ContinueAsNew<Result<O::Output, O::Error>> {
    ContinueAsNew::new(&ctx.core, ctx.core.encode_input(input), Location::caller())
}

/// Starts an orchestration.
pub fn start<O: Orchestration>(client: &Client, id: impl AsRef<str>, input: &O::Input) -> StartCall<O> {
    StartCall::new(client, O::NAME, id.as_ref(), encode_input(input))
}

/// Returns the handle of an instance.
pub fn handle<O: Orchestration>(client: &Client, id: impl AsRef<str>) -> Handle<O> {
    Handle::new(client, id.as_ref())
}

/// Begins the code of an async activity. If it is called directly within a turn, this suspends the instance and never
/// resolves.
pub async fn begin_activity(name: &'static str, handle: &'static str) {
    if direct_call::report(&Callee { kind: "activity", name, handle }, None) {
        std::future::pending::<()>().await;
    }
}

/// Begins the code of a blocking activity.
///
/// # Panics
/// Panics if it is called directly within a turn, after it has suspended the instance: the code must not run, and it
/// has no result.
#[track_caller]
pub fn begin_blocking_activity(name: &'static str, handle: &'static str) {
    if direct_call::report(&Callee { kind: "activity", name, handle }, Some(Location::caller())) {
        panic!("activity {name:?} is called as a function within an orchestration: use `{handle}::call(&ctx, ..)`");
    }
}

/// Begins the code of an orchestration. If another orchestration calls it directly, this suspends that one and never
/// resolves.
pub async fn begin_orchestration(name: &'static str, handle: &'static str, orchestration: TypeId) {
    let callee = Callee { kind: "orchestration", name, handle };
    if !direct_call::is_entered(orchestration) && direct_call::report(&callee, None) {
        std::future::pending::<()>().await;
    }
}
