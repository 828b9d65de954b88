//! The replay engine: history and messages in, decisions and events out.
//!
//! It is pure: it names no clock, no storage and no async runtime. An [`Execution`] holds the user's function as a
//! future. [`Execution::step`] delivers one input, polls the function until it no longer wakes itself, and returns the
//! decisions of the function. [`Execution::replay`] does the same with recorded inputs and compares the decisions with
//! the recorded ones. Both run through `Execution::step_to_quiescence`, so live execution and replay cannot differ.
//!
//! One input and its decisions are a *step*. A node delivers several inputs at once and commits their steps together:
//! that is a *turn*, which this module does not know.

mod compare;
mod core;
mod cut;
pub(crate) mod direct_call;
mod fault;
mod function;
mod held;
mod incremental;
mod mailbox;
pub(crate) mod op;
mod pending;
mod poll_scope;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;

pub(crate) use self::core::{CallSite, Core, Outcome};
use self::core::{ExecutionState, Recorded};
pub(crate) use self::cut::{Cut, NotACut, legal_cuts};
pub(crate) use self::fault::Fault;
pub(crate) use self::function::{Begin, Function};
pub(crate) use self::held::Held;
pub(crate) use self::incremental::Replay;
pub(crate) use self::mailbox::{Ticket, Unread, UnreadEvent};
use self::op::Op;
pub(crate) use self::op::cancel::UnseenCancel;
use self::poll_scope::{FunctionWaker, PollScope};
use crate::clock::Timestamp;
use crate::error::{Callee, shortened};
use crate::history::{Decision, EndRequest, EventKind, Failure, HistoryEvent, Input, Started, Waits, place_text};
use crate::id::{CallId, EventId, ExecutionId, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::policy::Limits;

/// The result of the user's function: its output, or its error.
pub(crate) type Returned = Result<Payload, Failed>;

/// An end without an output: the reason, and the user's error if there is one (else `null`).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) error: Payload,
    /// The called function, if the failure of a call names it.
    pub(crate) callee: Option<Box<Callee>>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, error: Payload::NULL, callee: None }
    }
}

/// The live copy of one execution.
pub(crate) struct Execution {
    core: Arc<Core>,
    future: Option<BoxFuture<'static, Returned>>,
    waker: Arc<FunctionWaker>,
}

/// The effects of one input.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The new events: those that were [held](held) and that the step has asked for, its input, its decisions. None when
    /// the input was stale.
    pub(crate) events: Vec<HistoryEvent>,
    /// The messages of the held events.
    pub(crate) pulled: Vec<MessageId>,
    /// The call that the input answered.
    pub(crate) resolved: Option<(CallId, Op)>,
    /// Calls that the function dropped.
    pub(crate) dropped: Vec<(CallId, Op)>,
    /// True if the execution has ended.
    pub(crate) ended: bool,
}

impl Step {
    /// Returns its input, unless it was stale.
    pub(crate) fn input(&self) -> Option<&HistoryEvent> {
        self.events.get(self.pulled.len())
    }
}

/// The open ends that an execution leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Calls without an outcome.
    pub(crate) open: Vec<(CallId, Op)>,
    /// A cancel request that the function has not seen.
    pub(crate) cancel: Option<UnseenCancel>,
    /// External events of its history that the function has not read, in the order of arrival.
    pub(crate) unread: Vec<UnreadEvent>,
    /// External events that are not in its history.
    pub(crate) held: Held,
}

impl Execution {
    /// Creates an execution without history. `on_stray` is called, from any thread, when something other than a
    /// delivered input wakes the function, or when its context is used outside of its poll.
    pub(crate) fn new(id: ExecutionId, function: Arc<Function>, on_stray: impl Fn() + Send + Sync + 'static) -> Self {
        let core = Arc::new(Core::new(id, function, Box::new(on_stray)));
        let waker = Arc::new(FunctionWaker::new(Arc::downgrade(&core)));
        Self { core, future: None, waker }
    }

    /// Sets the limits that values must keep from now on.
    pub(crate) fn limit(&self, limits: Limits) {
        self.core.lock().limits = limits;
    }

    /// Returns the id of the last event of its history.
    pub(crate) fn last_event(&self) -> EventId {
        self.core.lock().last_event
    }

    /// Returns the fault that stops the execution, if misuse was found between its polls.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.core.lock().fault.clone()
    }

    /// Returns the id of the execution.
    pub(crate) fn id(&self) -> &ExecutionId {
        &self.core.execution
    }

    /// Returns its start record; `None` before its first step.
    pub(crate) fn started(&self) -> Option<Arc<Started>> {
        self.core.lock().started.clone()
    }

    /// Returns the time of its first event.
    pub(crate) fn began(&self) -> Timestamp {
        self.core.lock().began
    }

    /// Returns the calls that it waits for.
    pub(crate) fn waits(&self) -> Option<Waits> {
        let state = self.core.lock();
        state.pending.waits(&state.calls, &state.mailbox)
    }

    /// Returns the state that it shares with its contexts.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Takes the open ends: calls without an outcome, an unseen cancel request, unread events.
    pub(crate) fn close(&mut self) -> Leftovers {
        let mut state = self.core.lock();
        let (open, cancel) = (state.take_open_calls(), state.cancel.unseen());
        let (unread, held) = (state.mailbox.take_unread(), std::mem::take(&mut state.mailbox.held));
        Leftovers { open, cancel, unread, held }
    }

    /// Takes over the held events of the execution before this one, which has just begun.
    pub(crate) fn take_over(&self, held: Held) {
        self.core.lock().mailbox.held = held;
    }

    /// Holds a message if it is an event that the code need not receive now. Otherwise returns it: it must be delivered
    /// next.
    pub(crate) fn hold(&self, message: Message) -> Option<Message> {
        let Input::EventRaised { name, .. } = &message.input else { return Some(message) };
        let mut state = self.core.lock();
        if message.lane != Lane::Carried && state.mailbox.held.is_empty() || state.started.is_none() {
            return Some(message);
        }
        let name = name.clone();
        state.mailbox.hold(&name, message)
    }

    /// Takes a held event that a pending wait is for. It must be delivered next.
    pub(crate) fn take_awaited(&self) -> Option<Message> {
        self.core.lock().mailbox.take_awaited()
    }

    /// Returns true if it holds events.
    pub(crate) fn holds_events(&self) -> bool {
        !self.core.lock().mailbox.held.is_empty()
    }

    /// Replays recorded events: a whole history, or its next whole steps.
    ///
    /// # Errors
    /// A [`Fault`] if the decisions of the function differ from the recorded ones.
    pub(crate) fn replay(&mut self, history: &[HistoryEvent]) -> Result<(), Fault> {
        self.replay_steps(history, None)
    }

    /// Replays the next whole steps of a recorded history. `behind` is the event that follows them, if any.
    fn replay_steps(&mut self, mut rest: &[HistoryEvent], behind: Option<&HistoryEvent>) -> Result<(), Fault> {
        while let Some((event, following)) = rest.split_first() {
            let EventKind::Input(input) = &event.kind else {
                return Err(compare::decision_without_step(event));
            };
            let is_decision = |event: &&HistoryEvent| matches!(event.kind, EventKind::Decision(_));
            let (recorded, next) = following.split_at(following.iter().take_while(is_decision).count());
            let recorded = without_end_from_outside(input, recorded);
            self.core.lock().replaying = Some(Recorded::of(recorded));
            let ended = self.core.lock().retired;
            let stepped = self.step_to_quiescence(event.id, event.time, input, event.payload.clone())?;
            let Some(outcome) = stepped else {
                let fault = if ended { compare::input_after_end } else { compare::stale_input };
                return Err(fault(event.id, input));
            };
            compare::step(event.id, recorded, &outcome.decisions, next.first().or(behind))?;
            if let Some(last) = recorded.last() {
                self.core.lock().last_event = last.id;
            }
            rest = next;
        }
        self.core.lock().replaying = None;
        Ok(())
    }

    /// Delivers one input at the given time, and returns its step; an empty one if the input is stale.
    ///
    /// # Errors
    /// A [`Fault`] if the execution cannot continue. It must then be dropped, and loaded again.
    pub(crate) fn step(&mut self, input: Input, payload: Payload, time: Timestamp) -> Result<Step, Fault> {
        let (id, time) = {
            let state = self.core.lock();
            (state.last_event.next(), time.max(state.now))
        };
        let outcome = self.step_to_quiescence(id, time, &input, payload.clone())?;
        let pulled = self.core.lock().mailbox.take_pulled(&input, id);
        let Some(outcome) = outcome else { return Ok(Step::default()) };
        let mut step = Step { resolved: outcome.resolved, dropped: outcome.dropped, ..Step::default() };
        step.events.reserve_exact(pulled.len() + 1 + outcome.decisions.len());
        let mut last = id;
        let mut record = |kind, payload, at| {
            last = EventId(id.0 + step.events.len() as u64);
            step.events.push(HistoryEvent { id: last, time, kind, payload, at });
        };
        for message in pulled {
            step.pulled.push(message.id);
            record(EventKind::Input(message.input), message.payload, None);
        }
        record(EventKind::Input(input), payload, None);
        for decided in outcome.decisions {
            step.ended |= decided.decision.is_terminal();
            let place = decided.place.filter(|_| decided.decision.is_call());
            record(EventKind::Decision(decided.decision), decided.payload, place.map(place_text));
        }
        self.core.lock().last_event = last;
        Ok(step)
    }

    /// Delivers one input, and polls until the function no longer wakes itself: the path that live execution and replay
    /// share. Returns `None` if the input is stale.
    fn step_to_quiescence(
        &mut self,
        id: EventId,
        time: Timestamp,
        input: &Input,
        payload: Payload,
    ) -> Result<Option<StepOutcome>, Fault> {
        let scope = PollScope::enter(&self.core);
        let mut state = self.core.lock();
        let delivered = state.deliver(id, time, input, payload.clone());
        let woken = state.take_woken();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        let mut outcome = StepOutcome::default();
        match delivered {
            op::Delivered::Stale => return Ok(None),
            op::Delivered::Begin => self.begin(&payload)?,
            op::Delivered::Resolved(call, op) => outcome.resolved = Some((call, op)),
            op::Delivered::Applied => {}
            op::Delivered::End(decision) => {
                self.retire();
                outcome.decisions.push(op::Decided::end(decision, Payload::NULL));
                return Ok(Some(outcome));
            }
        }
        let returned = self.poll_to_quiescence();
        drop(scope);
        let mut state = self.core.lock();
        if let Some(fault) = state.fault.clone() {
            return Err(fault);
        }
        outcome.decisions.extend(std::mem::take(&mut state.decisions).into_values().map(|decided| *decided));
        outcome.dropped = std::mem::take(&mut state.dropped);
        let returned = returned.map(|returned| state.end_with(returned));
        // A result is kept, although the request came first.
        let unheeded = if returned.is_none() { state.cancel.unheeded() } else { None };
        let unheeded = unheeded.map(|decision| op::Decided::end(decision, Payload::NULL));
        let end = unheeded.or_else(|| state.ending.take()).or(returned);
        if end.is_none() && !state.waits_for_something_durable() {
            return Err(Fault::not_durable(&self.core.function, state.last_place));
        }
        drop(state);
        if let Some(end) = end {
            self.retire();
            outcome.decisions.push(end);
        }
        Ok(Some(outcome))
    }

    fn begin(&mut self, input: &Payload) -> Result<(), Fault> {
        let made = catch_unwind(AssertUnwindSafe(|| self.core.function.begin(&self.core, input)));
        self.future = Some(match made {
            Ok(Ok(future)) => future,
            Ok(Err(error)) => return Err(Fault::unreadable_input(&error)),
            Err(panic) => Box::pin(std::future::ready(Err(panicked(&*panic)))),
        });
        self.waker.request_poll();
        Ok(())
    }

    /// Polls the function as long as it was woken; stops when it returns, continues as new, or is at fault.
    fn poll_to_quiescence(&mut self) -> Option<Returned> {
        let waker = Waker::from(self.waker.clone());
        let mut context = Context::from_waker(&waker);
        while self.waker.take_request() {
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

    /// Drops the function outside of a poll, so that the dropped calls are not recorded as cancelled.
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

/// Returns the decisions that the code itself must repeat. A termination from outside is recorded as a last decision,
/// without an input, after those of the code.
fn without_end_from_outside<'e>(input: &Input, recorded: &'e [HistoryEvent]) -> &'e [HistoryEvent] {
    let terminate = |started: &Started| matches!(started.request, Some(EndRequest::Terminate { .. }));
    let by_request = match input {
        Input::TerminateRequested { .. } => true,
        Input::Started(started) => terminate(started),
        _ => false,
    };
    match recorded {
        [by_code @ .., HistoryEvent { kind: EventKind::Decision(Decision::Terminated { .. }), .. }] if !by_request => {
            by_code
        }
        _ => recorded,
    }
}

/// Returns the children that have no outcome in a history, and that its end must close, without running user code.
pub(crate) fn open_children(execution: &ExecutionId, history: &[HistoryEvent]) -> Vec<(CallId, Op)> {
    let mut open = HashMap::new();
    for event in history {
        match &event.kind {
            EventKind::Decision(Decision::ChildScheduled(child)) if !child.detached => {
                open.insert(child.call, Op::Child { instance: child.instance_in(execution), close: child.close });
            }
            EventKind::Decision(Decision::CallDropped { call }) => {
                open.remove(call);
            }
            EventKind::Input(input) => {
                if let Some(call) = input.call() {
                    open.remove(&call);
                }
            }
            EventKind::Decision(
                Decision::ChildScheduled(_)
                | Decision::ActivityScheduled(_)
                | Decision::TimerCreated { .. }
                | Decision::EventAwaited { .. }
                | Decision::CallRejected { .. }
                | Decision::Completed
                | Decision::Failed { .. }
                | Decision::Cancelled { .. }
                | Decision::Terminated { .. }
                | Decision::ContinuedAsNew { .. },
            ) => {}
        }
    }
    by_call(open.into_iter().collect())
}

fn by_call(mut ops: Vec<(CallId, Op)>) -> Vec<(CallId, Op)> {
    ops.sort_unstable_by_key(|(call, _)| *call);
    ops
}

/// The decisions of one step, before they are numbered.
#[derive(Default)]
struct StepOutcome {
    decisions: Vec<op::Decided>,
    resolved: Option<(CallId, Op)>,
    dropped: Vec<(CallId, Op)>,
}

impl op::Decided {
    fn end(decision: Decision, payload: Payload) -> Self {
        Self { decision, payload, place: None }
    }
}

impl ExecutionState {
    /// Returns the end of the execution for the result of the function.
    ///
    /// A value that exceeds the limits is refused. On replay the history decides, since limits may have changed.
    fn end_with(&self, returned: Returned) -> op::Decided {
        let refused = match &self.replaying {
            Some(recorded) => recorded.refused_end.clone(),
            None => match &returned {
                Ok(output) => self.limits.check("the output", output).err(),
                Err(Failed { error, .. }) => self.limits.check("the error", error).err(),
            },
        };
        match (refused, returned) {
            (Some(reason), _) => {
                op::Decided::end(Decision::Failed { failure: Failure::Rejected { reason } }, Payload::NULL)
            }
            (None, Ok(output)) => op::Decided::end(Decision::Completed, output),
            (None, Err(Failed { failure, error, .. })) => op::Decided::end(Decision::Failed { failure }, error),
        }
    }
}

/// Converts a panic of user code into a failure. A long message is cut.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Failed {
    let message = if let Some(text) = panic.downcast_ref::<&str>() {
        shortened(text)
    } else if let Some(text) = panic.downcast_ref::<String>() {
        shortened(text)
    } else {
        "a panic without a message".to_owned()
    };
    Failure::Panicked { message }.into()
}

/// Puts the instance before the message of a panic. Leaves other failures as they are.
pub(crate) fn in_instance(failure: Failure, instance: &InstanceId) -> Failure {
    match failure {
        Failure::Panicked { message } => {
            Failure::Panicked { message: shortened(&format!("instance `{instance}`: {message}")) }
        }
        other => other,
    }
}
