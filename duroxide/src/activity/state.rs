//! Program state for activities: connections, clients, configuration.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use super::ActivityContext;

/// A parameter of an activity that comes from the program's state instead of the input.
///
/// The value is cloned for each attempt, so wrap a large value in an `Arc`.
///
/// ```
/// use duroxide::State;
/// let State(name) = State("gateway".to_owned());
/// assert_eq!(name, "gateway");
/// assert_eq!(State(name).len(), 7); // it also dereferences to the value
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State<T>(pub T);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A type that activities take as `State<T>`: every owned type that is `Clone + Send + Sync`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a program: it needs `Clone`, `Send` and `Sync`",
    label = "each attempt of the activity gets a clone of this state",
    note = "derive `Clone`, or share the value: `State<std::sync::Arc<{Self}>>`"
)]
pub trait ProgramState: Sized + 'static {
    /// Returns the value that the program provides.
    #[doc(hidden)]
    fn __get(ctx: &ActivityContext) -> State<Self>;

    /// Returns the description of the type.
    #[doc(hidden)]
    fn __type() -> StateType;
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> ProgramState for T {
    /// # Panics
    /// Panics if the program does not provide the state. The start of the runtime has checked that it does.
    fn __get(ctx: &ActivityContext) -> State<T> {
        let state = ctx.state();
        state.unwrap_or_else(|| panic!("State<{}> was checked when the runtime started", std::any::type_name::<T>()))
    }

    fn __type() -> StateType {
        StateType::of::<T>()
    }
}

/// The type of a program state that an activity takes; [`ActivityFn::requires`](super::ActivityFn::requires) lists them.
#[derive(Debug, Clone, Copy)]
pub struct StateType {
    id: TypeId,
    name: &'static str,
}

impl StateType {
    /// Returns the state type `T`.
    pub fn of<T: Clone + Send + Sync + 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: std::any::type_name::<T>() }
    }

    /// Returns its name, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The state of a program: one value for each type.
#[derive(Clone)]
pub(crate) struct States {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

/// Every program has the unit as a state: transactions that need no state ask for it.
impl Default for States {
    fn default() -> Self {
        let mut states = Self { values: HashMap::new() };
        states.insert(());
        states
    }
}

impl States {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.values.get(&TypeId::of::<T>())?.downcast_ref().cloned()
    }

    pub(crate) fn holds(&self, state: &StateType) -> bool {
        self.values.contains_key(&state.id)
    }
}
