//! The replay engine: history and messages in, decisions and events out.
//!
//! It is pure: it names no clock, no storage and no async runtime. An [`Execution`] holds the user's function as a
//! future. [`Execution::step`] delivers one input, polls the function until it stands still, and returns what it decided.
//! [`Execution::replay`] does the same with recorded inputs and compares the decisions with those that were recorded.
//! Since both take the same path, live execution and replay cannot differ.

mod compare;
mod core;
mod fault;
mod mailbox;
pub(crate) mod op;
mod parts;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;

use self::core::Refusals;
pub(crate) use self::core::{Core, Outcome};
pub(crate) use self::fault::Fault;
pub(crate) use self::mailbox::{Ticket, Unread};
use self::op::Op;
pub(crate) use self::parts::Replay;
use self::turn::{TurnGuard, TurnWaker};
use crate::clock::Timestamp;
use crate::history::{Decision, Event, EventKind, Failure, Input, Started};
use crate::id::{CallId, EventId, ExecutionId};
use crate::payload::{Payload, PayloadError};
use crate::policy::Limits;

/// What the user's function returned: its output, or its error.
pub(crate) type Returned = Result<Payload, Failed>;

/// An end without a result: why, and the user's error where there is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) error: Payload,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, error: Payload::NULL }
    }
}

/// The user's function: turns its input into a future.
pub(crate) type Function =
    dyn Fn(Arc<Core>, &Payload) -> Result<BoxFuture<'static, Returned>, PayloadError> + Send + Sync;

/// The live copy of one execution.
pub(crate) struct Execution {
    core: Arc<Core>,
    function: Arc<Function>,
    future: Option<BoxFuture<'static, Returned>>,
    waker: Arc<TurnWaker>,
}

/// What one input led to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The new events; none when the input was stale.
    pub(crate) events: Vec<Event>,
    /// The call that the input answered.
    pub(crate) resolved: Option<(CallId, Op)>,
    /// Calls that the function dropped.
    pub(crate) dropped: Vec<(CallId, Op)>,
    /// Whether the execution has come to its end.
    pub(crate) ended: bool,
}

/// What an execution leaves when it ends.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Calls that have no outcome.
    pub(crate) open: Vec<(CallId, Op)>,
    /// A cancel that was asked for, and that the function has not been told of.
    pub(crate) cancel: Option<String>,
    /// External events that were not read: their names and contents, in the order of arrival.
    pub(crate) unread: Vec<(String, Unread)>,
}

impl Execution {
    /// A new one, without history. `on_stray` is called, from any thread, when something other than a delivered input
    /// wakes the function, or when its context is used outside of its turn.
    pub(crate) fn new(id: ExecutionId, function: Arc<Function>, on_stray: impl Fn() + Send + Sync + 'static) -> Self {
        let core = Arc::new(Core::new(id, Box::new(on_stray)));
        let waker = Arc::new(TurnWaker::new(Arc::downgrade(&core)));
        Self { core, function, future: None, waker }
    }

    /// Refuses values beyond these limits from now on.
    pub(crate) fn limit(&self, limits: Limits) {
        self.core.lock().limits = limits;
    }

    /// The last event of its history.
    pub(crate) fn last_event(&self) -> EventId {
        self.core.lock().last_event
    }

    /// Why the execution cannot go on, if something was found outside of a turn.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.core.lock().fault.clone()
    }

    /// Which execution it is.
    pub(crate) fn id(&self) -> &ExecutionId {
        &self.core.execution
    }

    /// How it began; `None` before its first step.
    pub(crate) fn started(&self) -> Option<Started> {
        self.core.lock().started.clone()
    }

    /// What contexts share with it.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Calls that have no outcome yet, and unread events in the order of their arrival.
    pub(crate) fn close(&mut self) -> Remains {
        let mut state = self.core.lock();
        Remains { open: state.take_open_calls(), cancel: state.cancel.untold(), unread: state.mailbox.take_unread() }
    }

    /// Brings the execution to the end of a recorded history.
    ///
    /// # Errors
    /// A [`Fault`] when the function decides something else than what was recorded.
    pub(crate) fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        self.replay_steps(history, None)
    }

    /// Brings the execution to the end of the next steps of a recorded history, which is followed by the event `behind`.
    fn replay_steps(&mut self, mut rest: &[Event], behind: Option<&Event>) -> Result<(), Fault> {
        while let Some((event, following)) = rest.split_first() {
            let EventKind::Input(input) = &event.kind else {
                return Err(compare::decision_without_step(event));
            };
            let is_decision = |event: &&Event| matches!(event.kind, EventKind::Decision(_));
            let (recorded, next) = following.split_at(following.iter().take_while(is_decision).count());
            let recorded = without_end_from_outside(input, recorded);
            self.core.lock().replaying = Some(Refusals::of(recorded));
            let ended = self.core.lock().retired;
            let Some(decided) = self.run(event.id, event.time, input, event.payload.clone())? else {
                let fault = if ended { compare::input_after_end } else { compare::stale_input };
                return Err(fault(event.id, input));
            };
            compare::step(event.id, recorded, &decided.decisions, next.first().or(behind))?;
            if let Some(last) = recorded.last() {
                self.core.lock().last_event = last.id;
            }
            rest = next;
        }
        self.core.lock().replaying = None;
        Ok(())
    }

    /// Delivers one input at the given time.
    ///
    /// # Errors
    /// A [`Fault`] when the code cannot go on; the copy is of no use any more.
    pub(crate) fn step(&mut self, input: Input, payload: Payload, time: Timestamp) -> Result<Step, Fault> {
        let (id, time) = {
            let state = self.core.lock();
            (state.last_event.next(), time.max(state.now))
        };
        let Some(decided) = self.run(id, time, &input, payload.clone())? else {
            return Ok(Step::default());
        };
        let mut step = Step { resolved: decided.resolved, dropped: decided.dropped, ..Step::default() };
        step.events.push(Event { id, time, kind: EventKind::Input(input), payload });
        for (position, decision) in (id.0 + 1..).zip(decided.decisions) {
            step.ended |= decision.what.is_terminal();
            let kind = EventKind::Decision(decision.what);
            step.events.push(Event { id: EventId(position), time, kind, payload: decision.payload });
        }
        self.core.lock().last_event = step.events.last().map_or(id, |last| last.id);
        Ok(step)
    }

    /// Delivers one input and polls to a standstill: the path that live execution and replay share. `None`: it was stale.
    fn run(&mut self, id: EventId, time: Timestamp, input: &Input, payload: Payload) -> Result<Option<Decided>, Fault> {
        let turn = TurnGuard::enter(&self.core);
        let mut state = self.core.lock();
        let delivered = state.deliver(id, time, input, payload.clone());
        let woken = state.take_woken();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        let mut decided = Decided::default();
        match delivered {
            op::Delivered::Stale => return Ok(None),
            op::Delivered::Begin => self.begin(&payload)?,
            op::Delivered::Resolved(call, op) => decided.resolved = Some((call, op)),
            op::Delivered::Taken => {}
            op::Delivered::End(decision) => {
                self.retire();
                decided.decisions.push(op::Decided::end(decision, Payload::NULL));
                return Ok(Some(decided));
            }
        }
        let returned = self.poll_to_standstill();
        drop(turn);
        let mut state = self.core.lock();
        if let Some(fault) = state.fault.clone() {
            return Err(fault);
        }
        decided.decisions.extend(std::mem::take(&mut state.decisions).into_values());
        decided.dropped = std::mem::take(&mut state.dropped);
        let end = state.ending.take().or_else(|| returned.map(|r| op::Decided::returned(r, &state.limits)));
        if end.is_none() && !state.waits_for_something_durable() {
            return Err(Fault::not_durable(state.last_place));
        }
        drop(state);
        if let Some(end) = end {
            self.retire();
            decided.decisions.push(end);
        }
        Ok(Some(decided))
    }

    fn begin(&mut self, input: &Payload) -> Result<(), Fault> {
        let made = catch_unwind(AssertUnwindSafe(|| (self.function)(self.core.clone(), input)));
        self.future = Some(match made {
            Ok(Ok(future)) => future,
            Ok(Err(error)) => return Err(Fault::unreadable_input(&error)),
            Err(panic) => Box::pin(std::future::ready(Err(panicked(&*panic)))),
        });
        self.waker.wake_in_turn();
        Ok(())
    }

    /// Polls as long as something has woken the function, and stops when it returns or continues as new.
    fn poll_to_standstill(&mut self) -> Option<Returned> {
        let waker = Waker::from(self.waker.clone());
        let mut context = Context::from_waker(&waker);
        while self.waker.take() {
            let future = self.future.as_mut()?;
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
                Ok(Poll::Ready(returned)) => return Some(returned),
                Ok(Poll::Pending) => {}
                Err(panic) => return Some(Err(panicked(&*panic))),
            }
            let state = self.core.lock();
            if state.ending.is_some() || state.fault.is_some() {
                return None;
            }
        }
        None
    }

    /// Drops the function outside of a turn, where that records nothing.
    fn retire(&mut self) {
        self.core.lock().retired = true;
        let future = self.future.take();
        // User code may panic in a destructor; the end of the execution is decided already.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.retire();
    }
}

/// What the code has decided: an end from outside is written behind it, and no input tells of it.
fn without_end_from_outside<'e>(input: &Input, recorded: &'e [Event]) -> &'e [Event] {
    match recorded {
        [decided @ .., Event { kind: EventKind::Decision(Decision::Terminated { .. }), .. }]
            if !matches!(input, Input::TerminateRequested { .. }) =>
        {
            decided
        }
        _ => recorded,
    }
}

/// The children that a history leaves without an outcome: what its end has to close, told without running any code.
pub(crate) fn open_children(history: &[Event]) -> Vec<(CallId, Op)> {
    let mut open = HashMap::new();
    for event in history {
        match &event.kind {
            EventKind::Decision(Decision::ChildScheduled(child)) if !child.detached => {
                open.insert(child.call, Op::Child { instance: child.instance.clone(), close: child.close });
            }
            EventKind::Decision(Decision::CallDropped { call }) => {
                open.remove(call);
            }
            EventKind::Input(input) => {
                if let Some(call) = input.call() {
                    open.remove(&call);
                }
            }
            EventKind::Decision(_) => {}
        }
    }
    by_call(open.into_iter().collect())
}

fn by_call(mut ops: Vec<(CallId, Op)>) -> Vec<(CallId, Op)> {
    ops.sort_unstable_by_key(|(call, _)| *call);
    ops
}

/// What the function decided in one step.
#[derive(Default)]
struct Decided {
    decisions: Vec<op::Decided>,
    resolved: Option<(CallId, Op)>,
    dropped: Vec<(CallId, Op)>,
}

impl op::Decided {
    fn end(what: Decision, payload: Payload) -> Self {
        Self { what, payload, place: None }
    }

    fn returned(returned: Returned, limits: &Limits) -> Self {
        let too_long = |what: &str, payload: &Payload| limits.check(what, payload).err();
        let refused = match &returned {
            Ok(output) => too_long("the output", output),
            Err(Failed { error, .. }) => too_long("the error", error),
        };
        if let Some(reason) = refused {
            return Self::end(Decision::Failed { failure: Failure::Rejected { reason } }, Payload::NULL);
        }
        match returned {
            Ok(output) => Self::end(Decision::Completed, output),
            Err(Failed { failure, error }) => Self::end(Decision::Failed { failure }, error),
        }
    }
}

/// The failure that a panic of user code amounts to.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Failed {
    let message = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    Failure::Panicked { message }.into()
}
