//! The state that the engine shares with the contexts and the futures of user code.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::mailbox::{Mailbox, Unread};
use super::op::random::Random;
use super::op::{Call, Decided, Delivered, Op};
use super::pending::{CallFacts, Pending};
use super::{Failed, Fault, Function, poll_scope};
use crate::clock::Timestamp;
use crate::error::{shortened, shortened_to};
use crate::hash::HashMap;
use crate::history::{Decision, EndRequest, EventKind, Failure, HistoryEvent, Input, Started};
use crate::id::{CallId, EventId, ExecutionId, InstanceId};
use crate::payload::encoded::Encoded;
use crate::payload::{Codec, Payload, PayloadError};
use crate::policy::Limits;

/// The facts of a recorded step that replay gives to the code, which cannot derive them from its own values.
#[derive(Default)]
pub(crate) struct Recorded {
    /// The calls that were refused, with the reasons.
    refusals: HashMap<CallId, String>,
    /// The recorded ids of the instances that were started.
    children: HashMap<CallId, InstanceId>,
    /// The reason for which the returned value was refused.
    pub(super) refused_end: Option<String>,
}

impl Recorded {
    pub(super) fn of(recorded: &[HistoryEvent]) -> Self {
        let mut facts = Self::default();
        for event in recorded {
            match &event.kind {
                EventKind::Decision(Decision::CallRejected { call, reason, .. }) => {
                    facts.refusals.insert(*call, reason.clone());
                }
                EventKind::Decision(Decision::ChildScheduled(child)) => {
                    facts.children.extend(child.instance.clone().map(|instance| (child.call, instance)));
                }
                EventKind::Decision(Decision::Failed { failure: Failure::Rejected { reason } }) => {
                    facts.refused_end = Some(reason.clone());
                }
                _ => {}
            }
        }
        facts
    }
}

/// The limit of the recorded name of a refused operation, in bytes: the name may be the refused part.
pub(super) const MAX_OPERATION: usize = 1024;

/// The outcome of a call.
pub(crate) type Outcome = Result<Payload, Failed>;

/// The source location of a call in user code.
pub(crate) type CallSite = &'static Location<'static>;

/// The handle to an execution that its contexts and futures hold. It detects their misuse.
pub(crate) struct Core {
    pub(crate) execution: ExecutionId,
    pub(crate) function: Arc<Function>,
    /// A std mutex, never contended: only the polling thread locks it, except to report misuse from another thread.
    state: Mutex<ExecutionState>,
    on_stray: Box<dyn Fn() + Send + Sync>,
}

/// The state of an execution: a fold of its history, and the decisions of the running step.
pub(crate) struct ExecutionState {
    pub(crate) now: Timestamp,
    /// The time of its first event.
    pub(crate) began: Timestamp,
    pub(super) last_event: EventId,
    pub(crate) started: Option<Arc<Started>>,
    pub(crate) mailbox: Mailbox,
    /// Calls without an outcome, and outcomes that no future has taken.
    pub(super) calls: HashMap<CallId, Call>,
    /// Those of the calls that have no outcome, by kind.
    pub(super) pending: Pending,
    /// The number of calls that were polled and have no outcome.
    waiting: usize,
    /// Wakers to call once the lock is released (wakers are foreign code).
    to_wake: Vec<Waker>,
    last_call: CallId,
    pub(super) random: Random,
    pub(super) cancel: super::op::cancel::Cancel,
    /// The decisions of the running step, sorted by call. In boxes, since a node of the map has room for eleven.
    pub(super) decisions: BTreeMap<CallId, Box<Decided>>,
    pub(super) dropped: Vec<(CallId, Op)>,
    pub(super) ending: Option<Decided>,
    pub(super) fault: Option<Fault>,
    pub(super) last_place: Option<CallSite>,
    pub(super) limits: Limits,
    /// During replay: the facts of the recorded step.
    pub(super) replaying: Option<Recorded>,
    /// The function was dropped, or is being dropped outside of a poll: its destructors decide nothing.
    pub(super) retired: bool,
}

impl Core {
    pub(super) fn new(execution: ExecutionId, function: Arc<Function>, on_stray: Box<dyn Fn() + Send + Sync>) -> Self {
        let state = ExecutionState {
            now: Timestamp::from_micros(i64::MIN),
            began: Timestamp::from_micros(i64::MIN),
            last_event: EventId(0),
            started: None,
            mailbox: Mailbox::default(),
            calls: HashMap::default(),
            pending: Pending::default(),
            waiting: 0,
            to_wake: Vec::new(),
            last_call: CallId(0),
            random: Random::default(),
            cancel: super::op::cancel::Cancel::default(),
            decisions: BTreeMap::new(),
            dropped: Vec::new(),
            ending: None,
            fault: None,
            last_place: None,
            limits: Limits::unlimited(),
            replaying: None,
            retired: false,
        };
        Self { execution, function, state: Mutex::new(state), on_stray }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ExecutionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the place of the last durable call.
    pub(crate) fn last_place(&self) -> Option<CallSite> {
        self.lock().last_place
    }

    /// Locks the state for an operation that is allowed only within the function's own poll. Elsewhere it reports the
    /// misuse, and returns `None`.
    pub(crate) fn lock_in_poll(&self, place: CallSite) -> Option<MutexGuard<'_, ExecutionState>> {
        let mut state = self.lock();
        if !poll_scope::is_polling(self) {
            self.misused(state, Fault::outside_turn(place));
            return None;
        }
        if state.retired {
            return None;
        }
        state.last_place = Some(place);
        Some(state)
    }

    /// Locks the state for a destructor. Outside of the function's own poll (at eviction, for example) it returns
    /// `None`: a drop there is not a decision.
    pub(crate) fn lock_for_drop(&self) -> Option<MutexGuard<'_, ExecutionState>> {
        if !poll_scope::is_polling(self) {
            return None;
        }
        let state = self.lock();
        (!state.retired).then_some(state)
    }

    /// Reports that something other than a delivered input has woken the function.
    pub(super) fn stray_wake(&self) {
        let state = self.lock();
        let fault = Fault::not_durable(&self.function, state.last_place);
        self.misused(state, fault);
    }

    /// Records the fault that stops the execution; the first one counts.
    pub(crate) fn fail(&self, fault: Fault) {
        let mut state = self.lock();
        if !state.retired && state.fault.is_none() {
            state.fault = Some(fault);
        }
    }

    fn misused(&self, mut state: MutexGuard<'_, ExecutionState>, fault: Fault) {
        if state.retired || state.fault.is_some() {
            return;
        }
        state.fault = Some(fault);
        drop(state);
        (self.on_stray)();
    }

    /// Claims the id of a call that is being built.
    pub(crate) fn claim(&self, place: CallSite) -> CallId {
        match self.lock_in_poll(place) {
            Some(mut state) => {
                state.last_call.0 += 1;
                state.last_call
            }
            // The misuse was reported, and stops the execution. So this id is never used.
            None => CallId(0),
        }
    }

    /// Schedules a call, as a decision of the running step.
    pub(crate) fn schedule(&self, call: CallId, op: Op, decision: Decision, payload: Payload, place: CallSite) {
        if let Some(mut state) = self.lock_in_poll(place) {
            let scheduled = Call::new(op, CallFacts::new(state.now, &decision));
            state.pending.add(call, &scheduled);
            state.calls.insert(call, scheduled);
            state.decide(call, Decided { decision, payload, place: Some(place) });
        }
    }

    /// Serialises a value that is read as the same type. A value that this type could not read is refused, but not on
    /// replay: there the history decides.
    pub(crate) fn encode_input<I: crate::payload::Input>(&self, input: &I) -> Result<Payload, PayloadError> {
        self.encode(Codec::of::<I>(), input.__write())
    }

    /// Like [`encode_input`](Self::encode_input), for code that is not generic.
    pub(crate) fn encode(&self, codec: Codec, encoded: Encoded) -> Result<Payload, PayloadError> {
        let is_replaying = self.lock().replaying.is_some();
        if is_replaying { codec.unchecked(encoded) } else { codec.readable(encoded) }
    }

    /// Refuses a value that exceeds the limits. On replay the history decides, since limits may have changed.
    pub(crate) fn check_size(&self, call: CallId, subject: &str, payload: &Payload) -> Result<(), String> {
        let state = self.lock();
        match &state.replaying {
            Some(recorded) => recorded.refusals.get(&call).map_or(Ok(()), |reason| Err(reason.clone())),
            None => state.limits.check(subject, payload),
        }
    }

    /// Returns the recorded derived id of a child, if a history of an older format has one.
    pub(crate) fn recorded_derived_child(&self, call: CallId) -> Option<InstanceId> {
        let state = self.lock();
        let recorded = state.replaying.as_ref().and_then(|recorded| recorded.children.get(&call));
        recorded.filter(|id| id.is_derived_for(call)).cloned()
    }

    /// Refuses a call: the refusal is recorded, and is the outcome of the call.
    pub(crate) fn reject(&self, call: CallId, operation: &str, reason: String, place: CallSite) {
        if let Some(mut state) = self.lock_in_poll(place) {
            // User code may branch on the text, so a replay must repeat the recorded reason.
            let recorded = state.replaying.as_ref().and_then(|recorded| recorded.refusals.get(&call).cloned());
            let reason = recorded.unwrap_or_else(|| shortened(&reason));
            let outcome = Err(Failure::Rejected { reason: reason.clone() }.into());
            let operation = shortened_to(MAX_OPERATION, operation);
            let decision = Decision::CallRejected { call, operation, reason };
            let mut refused = Call::new(Op::Refused, CallFacts::new(state.now, &decision));
            refused.outcome = Some(outcome);
            state.calls.insert(call, refused);
            state.decide(call, Decided { decision, payload: Payload::NULL, place: Some(place) });
        }
    }

    /// Takes the outcome of a scheduled call, or stores the waker to call when it arrives.
    pub(crate) fn poll(&self, call: CallId, context: &Context<'_>, place: CallSite) -> Poll<Outcome> {
        let Some(mut state) = self.lock_in_poll(place) else { return Poll::Pending };
        let Some(pending) = state.calls.get_mut(&call) else { return Poll::Pending };
        if let Some(outcome) = pending.outcome.take() {
            state.calls.remove(&call);
            return Poll::Ready(outcome);
        }
        let first = pending.waker.is_none();
        store_waker(&mut pending.waker, context.waker());
        state.waiting += usize::from(first);
        Poll::Pending
    }

    /// Drops a scheduled call whose future has not returned its outcome.
    pub(crate) fn drop_call(&self, call: CallId) {
        if let Some(mut state) = self.lock_for_drop() {
            state.drop_call(call);
        }
    }
}

impl ExecutionState {
    /// Applies one input to the state, and collects the wakers of the futures that wait for it.
    pub(super) fn deliver(&mut self, id: EventId, time: Timestamp, input: &Input, payload: Payload) -> Delivered {
        let delivered = self.apply(id, input, payload);
        if !matches!(delivered, Delivered::Stale) {
            self.last_event = id;
            self.now = time;
            if id == EventId(1) {
                self.began = time;
            }
        }
        delivered
    }

    fn apply(&mut self, id: EventId, input: &Input, payload: Payload) -> Delivered {
        if self.retired || self.started.is_some() == matches!(input, Input::Started(_)) {
            return Delivered::Stale;
        }
        match input {
            Input::Started(started) => {
                self.random = Random::Seeded(started.seed);
                self.started = Some(Arc::new(Started::clone(started)));
                self.begin(started.request.as_ref())
            }
            Input::EventRaised { name, headers, by } => {
                let woken = self.mailbox.push(name, id, Unread { payload, headers: headers.clone(), by: by.clone() });
                self.to_wake.extend(woken);
                Delivered::Applied
            }
            Input::EventDropped { event } if self.mailbox.remove(*event) => Delivered::Applied,
            Input::EventDropped { .. } => Delivered::Stale,
            Input::CancelRequested { parent, .. } | Input::TerminateRequested { parent, .. }
                if parent.is_some()
                    && self.started.as_ref().is_none_or(|started| started.parent.as_ref() != parent.as_deref()) =>
            {
                Delivered::Stale
            }
            Input::CancelRequested { reason, by, .. } => self.cancel.request(reason, by.as_deref(), &mut self.to_wake),
            Input::TerminateRequested { reason, by, .. } => {
                Delivered::End(Decision::Terminated { reason: reason.clone(), by: by.clone() })
            }
            Input::ActivityCompleted { call, .. }
            | Input::ChildCompleted { call }
            | Input::TimerFired { call }
            | Input::StartAccepted { call } => self.resolve(*call, Ok(payload), input),
            Input::ActivityFailed { call, failure, callee, .. } | Input::ChildFailed { call, failure, callee } => {
                let failed = Failed { failure: failure.clone(), error: payload, callee: callee.clone() };
                self.resolve(*call, Err(failed), input)
            }
            Input::StartRejected { call, reason } => {
                self.resolve(*call, Err(Failure::Rejected { reason: reason.clone() }.into()), input)
            }
        }
    }

    /// Begins the execution, unless a request ends it before its function has run.
    fn begin(&mut self, request: Option<&EndRequest>) -> Delivered {
        match request {
            None => Delivered::Begin,
            Some(EndRequest::Terminate { reason, by }) => {
                Delivered::End(Decision::Terminated { reason: reason.clone(), by: by.clone() })
            }
            Some(EndRequest::CancelBeforeStart { reason, .. }) => {
                Delivered::End(Decision::Cancelled { reason: reason.clone() })
            }
            Some(EndRequest::Cancel { reason, by }) => {
                self.cancel.request_at_start(reason, by.as_deref());
                Delivered::Begin
            }
        }
    }

    fn resolve(&mut self, id: CallId, outcome: Outcome, input: &Input) -> Delivered {
        let Some(call) = self.calls.get_mut(&id) else { return Delivered::Stale };
        if call.outcome.is_some() || !call.op.is_answered_by(input) {
            return Delivered::Stale;
        }
        let op = call.op.clone();
        if call.abandoned {
            self.calls.remove(&id);
        } else {
            self.pending.remove(id, call);
            call.outcome = Some(outcome);
            let woken = call.waker.take();
            self.waiting -= usize::from(woken.is_some());
            self.to_wake.extend(woken);
        }
        Delivered::Resolved(id, op)
    }

    /// Adds a decision to those of the running step.
    pub(super) fn decide(&mut self, call: CallId, decided: Decided) {
        self.decisions.insert(call, Box::new(decided));
    }

    pub(super) fn drop_call(&mut self, id: CallId) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        self.waiting -= usize::from(call.waker.take().is_some());
        if call.outcome.is_some() {
            return;
        }
        self.pending.remove(id, &call);
        let is_new = self.decisions.contains_key(&id);
        if call.op.is_detached() || is_new && call.op.outlives_its_step() {
            call.abandoned = true;
            self.calls.insert(id, call);
        } else {
            self.forget(id, call.op);
        }
    }

    /// Records that a call without an outcome was dropped. A call that was scheduled in this very step leaves no
    /// record.
    pub(super) fn forget(&mut self, id: CallId, op: Op) {
        if self.decisions.remove(&id).is_none() {
            let decision = Decision::CallDropped { call: id };
            self.decide(id, Decided { decision, payload: Payload::NULL, place: self.last_place });
            self.dropped.push((id, op));
        }
    }

    /// Takes the wakers that the delivered input has to call.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.to_wake)
    }

    /// Removes the calls that have no outcome.
    pub(super) fn take_open_calls(&mut self) -> Vec<(CallId, Op)> {
        let open = self.calls.drain().filter(|(_, call)| call.outcome.is_none());
        super::by_call(open.map(|(id, call)| (id, call.op)).collect())
    }

    pub(super) fn waits_for_something_durable(&self) -> bool {
        self.waiting > 0 || self.mailbox.is_awaited() || self.cancel.is_awaited()
    }
}

/// Stores a waker, without cloning it if it would wake the same task.
pub(super) fn store_waker(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(stored) => stored.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}
