//! Detects calls of annotated functions, as functions, within a turn.
//!
//! `slow(n).await` in an orchestration, in place of `slow::call(&ctx, n).await`, would run the activity unrecorded, and
//! again on each replay. So the code that an attribute adds to a function reports the call, before the body runs.
//! Outside of a turn, in a unit test or in another activity, the function is an ordinary one.

use std::any::TypeId;
use std::cell::Cell;

use super::{CallSite, Fault, poll_scope};

/// An annotated function.
pub(crate) struct Callee {
    /// Activity or orchestration.
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    /// The name of the type whose `call` is the recorded way.
    pub(crate) handle: &'static str,
}

/// Reports a direct call, which suspends the instance. Returns false outside of a turn, where the call is allowed.
pub(crate) fn report(callee: &Callee, place: Option<CallSite>) -> bool {
    let Some(core) = poll_scope::current() else { return false };
    core.fail(Fault::direct_call(&core.function, callee, place, core.last_place()));
    true
}

thread_local! {
    /// The orchestration whose function the engine enters.
    static ENTERED: Cell<Option<TypeId>> = const { Cell::new(None) };
}

/// Announces that the engine enters the function of an orchestration, which it polls at once.
pub(crate) fn enter(orchestration: TypeId) {
    ENTERED.set(Some(orchestration));
}

/// Returns true once if the engine enters the function of this orchestration.
pub(crate) fn is_entered(orchestration: TypeId) -> bool {
    ENTERED.take() == Some(orchestration)
}
