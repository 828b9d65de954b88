//! The context of an orchestration. It is thin: each method returns a future that makes its decision when it is first
//! polled.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{ActivityCall, Cancelled, ChildCall, ContinueAsNew, Event, EventWait, Sleep, event};
use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::ExecutionId;
use crate::payload::Payload;
use crate::policy::ActivityOptions;
use crate::replay::Core;
use crate::replay::op::{cancel, timer::Due};

/// The interface of an orchestration to the runtime. Cheap to clone.
///
/// It works only within the turns of its own orchestration. Use from another task or thread suspends the instance, with
/// the place of the use.
#[derive(Clone)]
pub struct OrchestrationContext {
    pub(crate) core: Arc<Core>,
}

impl OrchestrationContext {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Returns the instance id and the number of this execution.
    pub fn execution(&self) -> &ExecutionId {
        &self.core.execution
    }

    /// Returns the headers that were given at the start, such as a trace context. They are the same on replay and in
    /// every execution of the instance. A child gets those of its parent.
    #[track_caller]
    pub fn headers(&self) -> TextMap {
        let state = self.core.lock_in_poll(Location::caller());
        state.and_then(|state| state.started.as_ref().map(|started| started.headers.clone())).unwrap_or_default()
    }

    /// Returns the recorded time of the newest delivered event: the same on replay, and constant until the next event.
    #[track_caller]
    pub fn now(&self) -> Timestamp {
        let state = self.core.lock_in_poll(Location::caller());
        state.map_or(Timestamp::from_micros(0), |state| state.now)
    }

    /// Returns a random number: the same on replay. Not for secrets.
    #[track_caller]
    pub fn random(&self) -> u64 {
        self.core.random(Location::caller())
    }

    /// Returns a random UUID (version 4): the same on replay. Not for secrets.
    #[track_caller]
    pub fn uuid(&self) -> Uuid {
        let place = Location::caller();
        let (high, low) = (self.core.random(place), self.core.random(place));
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()).into_uuid()
    }

    /// Returns a durable timer that fires after a duration. `Duration::MAX` waits until it is dropped.
    #[track_caller]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(&self.core, Due::After(duration), Location::caller())
    }

    /// Returns a durable timer that fires at a [`Timestamp`] or `SystemTime`; at once if that has passed.
    #[track_caller]
    pub fn sleep_until(&self, time: impl Into<Timestamp>) -> Sleep {
        Sleep::new(&self.core, Due::At(time.into()), Location::caller())
    }

    /// Waits for the next external event of a type. Events that came early are kept, in order.
    #[track_caller]
    pub fn event<E: Event>(&self) -> EventWait<E> {
        EventWait::new(&self.core, E::NAME, Location::caller())
    }

    /// Waits for the next external event of a name: the twin of [`event`](Self::event) for names chosen at run time.
    #[track_caller]
    pub fn event_named<T: DeserializeOwned>(&self, name: &str) -> EventWait<T> {
        EventWait::new(&self.core, name, Location::caller())
    }

    /// Takes the oldest unread event of a type that does not belong to a pending wait, if there is one.
    #[track_caller]
    pub fn try_event<E: Event>(&self) -> Option<E> {
        event::try_event(&self.core, E::NAME, Location::caller())
    }

    /// Takes the oldest unread event of a name: the twin of [`try_event`](Self::try_event).
    #[track_caller]
    pub fn try_event_named<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        event::try_event(&self.core, name, Location::caller())
    }

    /// Takes all unread events of a type that do not belong to a pending wait, oldest first.
    #[track_caller]
    pub fn drain<E: Event>(&self) -> Vec<E> {
        event::drain(&self.core, E::NAME, Location::caller())
    }

    /// Takes all unread events of a name, oldest first: the twin of [`drain`](Self::drain).
    #[track_caller]
    pub fn drain_named<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        event::drain(&self.core, name, Location::caller())
    }

    /// Waits for a request to cancel this instance, and resolves to its reason.
    ///
    /// Calling this once changes the effect of a cancel request. Without it, the function is dropped, and the outcome
    /// is *cancelled*. With it, the function continues, may compensate, and its result is the outcome.
    #[track_caller]
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(&self.core, Location::caller())
    }

    /// Returns the reason of a cancel request, if there is one. Counts as a call of [`cancelled`](Self::cancelled).
    #[track_caller]
    pub fn cancel_requested(&self) -> Option<String> {
        cancel::requested(&self.core, Location::caller())
    }

    /// Calls an activity by name: the twin of the typed `activity::call(&ctx, ..)` for names chosen at run time.
    ///
    /// The declared options belong to the activity's type, which is not known here. So without `.retry(..)` there is
    /// one attempt, and without `.timeout(..)` no limit. The error is JSON.
    #[track_caller]
    pub fn call_activity<T: DeserializeOwned>(
        &self,
        name: &str,
        input: &(impl Serialize + ?Sized),
    ) -> ActivityCall<T, serde_json::Value> {
        let place = Location::caller();
        ActivityCall::new(&self.core, name, Payload::encode(input), ActivityOptions::default(), place)
    }

    /// Calls an orchestration by name: the twin of the typed `orchestration::call(&ctx, ..)`. The error is JSON.
    #[track_caller]
    pub fn call_orchestration<T: DeserializeOwned>(
        &self,
        name: &str,
        input: &(impl Serialize + ?Sized),
    ) -> ChildCall<T, serde_json::Value> {
        ChildCall::new(&self.core, name, Payload::encode(input), Location::caller())
    }

    /// Continues as new with an input that is not checked against the type of this orchestration: the twin of the typed
    /// `orchestration::continue_as_new(&ctx, ..)`.
    #[track_caller]
    pub fn continue_as_new<R>(&self, input: &(impl Serialize + ?Sized)) -> ContinueAsNew<R> {
        ContinueAsNew::new(&self.core, Payload::encode(input), Location::caller())
    }
}

impl fmt::Debug for OrchestrationContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrchestrationContext({})", self.core.execution)
    }
}
