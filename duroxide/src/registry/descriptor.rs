//! Descriptions of annotated functions: the macros submit one for each, and
//! [`Registry::discover`](super::Registry::discover) collects those of all linked crates.

use std::any::TypeId;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::activity::{
    Activity, ActivityCode, ActivityFn, BlockingActivityFn, BlockingTransactionalFn, StateType, TransactionalFn,
    required_states,
};
use crate::error::shortened;
use crate::history::Failure;
use crate::orchestration::{OrchestrationContext, OrchestrationFn};
use crate::payload::encoded::Encoded;
use crate::payload::{Codec, Payload, PayloadError, Storable, read_input};
use crate::policy::ActivityOptions;
use crate::provider::ActivityTransaction;
use crate::replay::{Begin, Core, Failed, Returned, direct_call};

/// The source location of an annotated function, or of a registration by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The package.
    pub crate_name: &'static str,
    /// The module.
    pub module: &'static str,
    /// The file.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
    /// The first line of its documentation.
    pub doc: &'static str,
}

impl Place {
    /// Returns the place of the caller, for a registration by hand.
    #[track_caller]
    pub(super) fn caller() -> Self {
        let caller = Location::caller();
        Self { crate_name: "", module: "", file: caller.file(), line: caller.line(), doc: "" }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The type of an annotated function with a body; [`Registry::with`](super::Registry::with) takes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an annotated function with a body",
    note = "annotate it with `#[activity]` or `#[orchestration]`; what implements the traits by hand is added with \
            `with_activity`, `with_blocking_activity` or `with_orchestration`"
)]
pub trait Annotated: 'static {
    /// The description of the function.
    const DESCRIPTOR: Descriptor;
}

/// The description of a function, collected from every linked crate. Made by the macros.
///
/// It holds names and functions only, so that it is a constant, and a function needs no code of its own to describe it.
pub struct Descriptor {
    pub(super) place: Place,
    pub(super) name: &'static str,
    pub(super) parameters: Option<&'static [&'static str]>,
    /// Returns the identity of the type. A function, since `TypeId::of` is not a constant.
    pub(super) type_id: fn() -> TypeId,
    pub(super) code: Described,
}

/// The code of a described function.
pub(super) enum Described {
    Activity {
        requires: fn() -> Vec<StateType>,
        options: fn() -> ActivityOptions,
        /// The kind of the database in whose transactions it runs.
        transaction: Option<&'static str>,
        code: ActivityCode,
    },
    Orchestration {
        version: &'static str,
        begin: Begin,
    },
}

inventory::collect!(Descriptor);

impl Descriptor {
    /// Describes an async activity.
    pub const fn activity<A: ActivityFn>(place: Place) -> Self {
        Self::of_activity::<A>(place, A::requires, None, ActivityCode::of::<A>())
    }

    /// Describes a blocking activity.
    pub const fn blocking_activity<A: BlockingActivityFn>(place: Place) -> Self {
        Self::of_activity::<A>(place, A::requires, None, ActivityCode::of_blocking::<A>())
    }

    /// Describes an async activity that runs in a transaction.
    pub const fn transactional_activity<A: TransactionalFn>(place: Place) -> Self {
        let database = <A::Transaction as ActivityTransaction>::DATABASE;
        Self::of_activity::<A>(place, required_states::<A>, Some(database), ActivityCode::of_transactional::<A>())
    }

    /// Describes a blocking activity that runs in a transaction.
    pub const fn blocking_transactional_activity<A: BlockingTransactionalFn>(place: Place) -> Self {
        let database = <A::Transaction as ActivityTransaction>::DATABASE;
        Self::of_activity::<A>(place, A::requires, Some(database), ActivityCode::of_blocking_transactional::<A>())
    }

    const fn of_activity<A: Activity>(
        place: Place,
        requires: fn() -> Vec<StateType>,
        transaction: Option<&'static str>,
        code: ActivityCode,
    ) -> Self {
        let code = Described::Activity { requires, options: A::options, transaction, code };
        Self { place, name: A::NAME, parameters: A::PARAMETERS, type_id: TypeId::of::<A>, code }
    }

    /// Describes an orchestration.
    pub const fn orchestration<O: OrchestrationFn>(place: Place) -> Self {
        let code = Described::Orchestration { version: O::VERSION, begin: begin::<O> };
        Self { place, name: O::NAME, parameters: O::PARAMETERS, type_id: TypeId::of::<O>, code }
    }
}

/// Begins an orchestration: its input is read, its types are erased.
fn begin<O: OrchestrationFn>(core: Arc<Core>, input: &Payload) -> Result<BoxFuture<'static, Returned>, PayloadError> {
    let code = O::run(OrchestrationContext::new(core.clone()), read_input(input)?);
    Ok(returned(core, TypeId::of::<O>(), Box::pin(code)))
}

/// Runs the code of an orchestration. It is generic over the types of the result only: so functions with the same types
/// share it.
fn returned<T: Storable, E: Storable>(
    core: Arc<Core>,
    orchestration: TypeId,
    code: BoxFuture<'static, Result<T, E>>,
) -> BoxFuture<'static, Returned> {
    Box::pin(async move {
        direct_call::enter(orchestration);
        match code.await {
            Ok(output) => core.encode(Codec::of::<T>(), Encoded::of(output.__value())).map_err(refused),
            Err(error) => {
                let error = core.encode(Codec::of::<E>(), Encoded::of(error.__value())).map_err(refused)?;
                Err(Failed { failure: Failure::Application, error, callee: None })
            }
        }
    })
}

fn refused(error: PayloadError) -> Failed {
    Failed::from(Failure::Rejected { reason: shortened(&error.to_string()) })
}
