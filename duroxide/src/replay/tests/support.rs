//! Drives an orchestration by hand: inputs in, decisions out.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::{ErrorCode, Suspension};
use crate::history::{ActivityScheduled, ChildScheduled, Decision, EventKind, Failure, HistoryEvent, Input, Started};
use crate::id::{CallId, ExecutionId, Identity, InstanceId};
use crate::orchestration::OrchestrationContext;
use crate::payload::Payload;
use crate::policy::ClosePolicy;
use crate::replay::op::Op;
use crate::replay::{Execution, Failed, Fault, Function, Replay, Step};

/// The result of the orchestrations of these tests.
pub(super) type Result<T> = crate::Result<T>;

/// Makes an orchestration that takes its input as JSON.
pub(super) fn function<T, F>(body: impl Fn(OrchestrationContext, Value) -> F + Send + Sync + 'static) -> Arc<Function>
where
    T: Serialize,
    F: Future<Output = Result<T>> + Send + 'static,
{
    Function::new("`test` 1.0.0", "test.rs:1", move |core, input| {
        let body = body(OrchestrationContext::new(core), input.decode()?);
        Ok(Box::pin(async move {
            match body.await {
                Ok(output) => Ok(payload(&output)),
                Err(error) => Err(Failed { failure: Failure::Application, error: payload(&error), callee: None }),
            }
        }))
    })
}

pub(super) fn payload(value: &(impl Serialize + ?Sized)) -> Payload {
    Payload::encode(value).expect("values of these tests are JSON")
}

/// Returns the time of the n-th input of a [`Run`], and of its decisions.
pub(super) fn second(n: i64) -> Timestamp {
    Timestamp::from_micros(n * 1_000_000)
}

/// The identity of the instance of a [`Run`].
pub(super) const IDENTITY: Identity = Identity(Uuid::from_u128(7));

pub(super) fn execution_id() -> ExecutionId {
    ExecutionId { instance: InstanceId::new("order").expect("is an id"), identity: IDENTITY, number: 1 }
}

/// One execution that is driven by hand. The n-th input comes at second n; stale inputs are not counted.
pub(super) struct Run {
    pub(super) execution: Execution,
    pub(super) history: Vec<HistoryEvent>,
    function: Arc<Function>,
    decided: Vec<Decision>,
    dropped: Vec<(CallId, Op)>,
    strays: Arc<AtomicUsize>,
    inputs: i64,
}

/// Replays every run when its test ends.
impl Drop for Run {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.execution.fault().is_none() {
            self.reload();
        }
    }
}

impl Run {
    /// Starts an orchestration that takes no input.
    pub(super) fn start<T, F>(body: impl Fn(OrchestrationContext) -> F + Send + Sync + 'static) -> Self
    where
        T: Serialize,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Self::start_function(function(move |ctx, _| body(ctx)), &Value::Null)
    }

    pub(super) fn start_function(function: Arc<Function>, input: &Value) -> Self {
        let mut run = Self::before_start(function);
        run.deliver(started(), payload(input));
        run
    }

    pub(super) fn before_start(function: Arc<Function>) -> Self {
        let strays = Arc::new(AtomicUsize::new(0));
        let execution = execution(&function, &strays);
        Self { execution, history: Vec::new(), function, decided: Vec::new(), dropped: Vec::new(), strays, inputs: 0 }
    }

    /// Starts an orchestration whose first step must fail.
    pub(super) fn start_fails<T, F>(body: impl Fn(OrchestrationContext) -> F + Send + Sync + 'static) -> Suspension
    where
        T: Serialize,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Self::before_start(function(move |ctx, _| body(ctx))).fails(started(), Payload::NULL)
    }

    /// Delivers an input that is not stale; returns the decisions.
    pub(super) fn deliver(&mut self, input: Input, payload: Payload) -> &[Decision] {
        let shown = format!("{input:?}");
        let step = self.step(input, payload).unwrap_or_else(|fault| panic!("{shown}: {}", fault.0));
        assert!(!step.events.is_empty(), "{shown} is stale");
        self.decided = decisions(&step.events).cloned().collect();
        self.dropped = step.dropped;
        self.history.extend(step.events);
        &self.decided
    }

    fn step(&mut self, input: Input, payload: Payload) -> std::result::Result<Step, Fault> {
        let step = self.execution.step(input, payload, second(self.inputs + 1))?;
        self.inputs += i64::from(!step.events.is_empty());
        Ok(step)
    }

    /// Delivers an input that changes nothing.
    pub(super) fn ignores(&mut self, input: Input) {
        let shown = format!("{input:?}");
        let step = self.step(input, payload(&"ignored")).unwrap_or_else(|fault| panic!("{shown}: {}", fault.0));
        assert!(step.events.is_empty() && step.dropped.is_empty() && step.resolved.is_none(), "{shown}: {step:?}");
        assert_eq!(self.execution.last_event().0, self.history.len() as u64);
    }

    /// Delivers an input that makes the execution fail.
    pub(super) fn fails(&mut self, input: Input, payload: Payload) -> Suspension {
        match self.step(input, payload) {
            Ok(step) => panic!("it does not fail: {step:?}"),
            Err(fault) => *fault.0,
        }
    }

    pub(super) fn completes(&mut self, call: u64, output: impl Serialize) -> &[Decision] {
        self.deliver(activity_completed(call), payload(&output))
    }

    pub(super) fn activity_fails(&mut self, call: u64, failure: Failure, error: impl Serialize) -> &[Decision] {
        self.deliver(Input::ActivityFailed { call: CallId(call), failure, callee: None, run: None }, payload(&error))
    }

    pub(super) fn fires(&mut self, call: u64) -> &[Decision] {
        self.deliver(Input::TimerFired { call: CallId(call) }, Payload::NULL)
    }

    pub(super) fn raises(&mut self, name: &str, content: impl Serialize) -> &[Decision] {
        self.deliver(raised(name), payload(&content))
    }

    pub(super) fn child_completes(&mut self, call: u64, output: impl Serialize) -> &[Decision] {
        self.deliver(Input::ChildCompleted { call: CallId(call) }, payload(&output))
    }

    pub(super) fn cancels(&mut self, reason: &str) -> &[Decision] {
        self.deliver(Input::CancelRequested { reason: reason.to_owned(), parent: None, by: None }, Payload::NULL)
    }

    /// Returns the decisions of the last step.
    pub(super) fn decided(&self) -> &[Decision] {
        &self.decided
    }

    /// Returns the calls that the last step dropped.
    pub(super) fn dropped(&self) -> Vec<u64> {
        self.dropped.iter().map(|(call, _)| call.0).collect()
    }

    /// Returns the value of the last event.
    pub(super) fn output<T: DeserializeOwned>(&self) -> T {
        self.history.last().expect("has begun").payload.decode().expect("is of that type")
    }

    /// Returns the number of reports of misuse.
    pub(super) fn strays(&self) -> usize {
        self.strays.load(Ordering::SeqCst)
    }

    /// Replaces the live copy by one that is replayed from the history, as a node does after a restart.
    pub(super) fn reload(&mut self) {
        self.execution = execution(&self.function, &self.strays);
        let replayed = self.execution.replay(&self.history);
        replayed.unwrap_or_else(|fault| panic!("{}", fault.0));
        assert_eq!(self.execution.last_event().0, self.history.len() as u64);
    }

    /// Replays the history against other code, which must not match.
    pub(super) fn mismatches<T, F>(
        &self,
        body: impl Fn(OrchestrationContext) -> F + Send + Sync + 'static,
    ) -> Suspension
    where
        T: Serialize,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.suspends(ErrorCode::Nondeterminism, body)
    }

    /// Replays the history against other code, which is expected to end while history is left over.
    pub(super) fn leaves_over<T, F>(
        &self,
        body: impl Fn(OrchestrationContext) -> F + Send + Sync + 'static,
    ) -> Suspension
    where
        T: Serialize,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.suspends(ErrorCode::HistoryLeftOver, body)
    }

    fn suspends<T, F>(
        &self,
        code: ErrorCode,
        body: impl Fn(OrchestrationContext) -> F + Send + Sync + 'static,
    ) -> Suspension
    where
        T: Serialize,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let fault = replay(&function(move |ctx, _| body(ctx)), &self.history).err().expect("does not fit");
        assert_eq!(fault.0.code, code, "{}", fault.0);
        *fault.0
    }

    /// Replays the history against other code, which must match.
    pub(super) fn also_replays<T, F>(&self, body: impl Fn(OrchestrationContext) -> F + Send + Sync + 'static)
    where
        T: Serialize,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        replay(&function(move |ctx, _| body(ctx)), &self.history).unwrap_or_else(|fault| panic!("{}", fault.0));
    }
}

fn execution(function: &Arc<Function>, strays: &Arc<AtomicUsize>) -> Execution {
    let strays = strays.clone();
    let count = move || {
        strays.fetch_add(1, Ordering::SeqCst);
    };
    Execution::new(execution_id(), function.clone(), count)
}

pub(super) fn replay(function: &Arc<Function>, history: &[HistoryEvent]) -> std::result::Result<Execution, Fault> {
    let mut replay = Replay::new(Box::new(Execution::new(execution_id(), function.clone(), || ())));
    // All at once, or in pages of 1 to 3 events, which may end within a step.
    let size = match history.len() % 4 {
        0 => history.len().max(1),
        size => size,
    };
    for page in history.chunks(size) {
        replay.push_page(page.to_vec())?;
    }
    replay.end().map(|execution| *execution)
}

pub(super) fn decisions(events: &[HistoryEvent]) -> impl Iterator<Item = &Decision> {
    events.iter().filter_map(|event| match &event.kind {
        EventKind::Decision(decision) => Some(decision),
        EventKind::Input(_) => None,
    })
}

pub(super) fn started() -> Input {
    Input::Started(Box::new(Started {
        request: None,
        name: "checkout".to_owned(),
        version: None,
        seed: 7,
        parent: None,
        headers: Default::default(),
        labels: Default::default(),
    }))
}

pub(super) fn activity_completed(call: u64) -> Input {
    Input::ActivityCompleted { call: CallId(call), run: None }
}

pub(super) fn raised(name: &str) -> Input {
    Input::raised(name)
}

pub(super) fn activity(call: u64, name: &str) -> Decision {
    Decision::ActivityScheduled(Box::new(ActivityScheduled {
        call: CallId(call),
        name: name.to_owned(),
        tag: None,
        detached: false,
        options: Default::default(),
    }))
}

pub(super) fn detached_activity(call: u64, name: &str) -> Decision {
    match activity(call, name) {
        Decision::ActivityScheduled(mut activity) => {
            activity.detached = true;
            Decision::ActivityScheduled(activity)
        }
        other => other,
    }
}

pub(super) fn timer(call: u64, due: Timestamp) -> Decision {
    Decision::TimerCreated { call: CallId(call), due }
}

pub(super) fn awaits(call: u64, name: &str) -> Decision {
    Decision::EventAwaited { call: CallId(call), name: name.to_owned() }
}

/// A child; an empty `instance` stands for a derived id.
pub(super) fn child(call: u64, name: &str, instance: &str) -> Decision {
    Decision::ChildScheduled(Box::new(ChildScheduled {
        call: CallId(call),
        name: name.to_owned(),
        version: None,
        instance: (!instance.is_empty()).then(|| instance.to_owned().try_into().expect("is an id")),
        detached: false,
        close: ClosePolicy::Cancel,
    }))
}

pub(super) fn detached_start(call: u64, name: &str, instance: &str) -> Decision {
    match child(call, name, instance) {
        Decision::ChildScheduled(mut child) => {
            child.detached = true;
            Decision::ChildScheduled(child)
        }
        other => other,
    }
}

pub(super) fn dropped(call: u64) -> Decision {
    Decision::CallDropped { call: CallId(call) }
}

pub(super) const COMPLETED: Decision = Decision::Completed;

pub(super) const NOTHING: [Decision; 0] = [];

pub(super) fn failed() -> Decision {
    Decision::Failed { failure: Failure::Application }
}

pub(super) fn panicked(message: &str) -> Decision {
    Decision::Failed { failure: Failure::Panicked { message: message.to_owned() } }
}

/// Polls a future once, without consuming it.
pub(super) async fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))).await
}
