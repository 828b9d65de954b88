//! One attempt of an activity.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::unconstrained;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::blocking::BlockingPool;
use super::poll_watch::{PollView, PollWatch};
use crate::activity::{ActivityCode, ActivityContext, CancelSignal, Ended, States, TRANSACTION_LIMIT};
use crate::clock::{Clock, Timestamp};
use crate::effect::ScheduledActivity;
use crate::error::shortened;
use crate::history::{ActivityScheduled, Decision, EventKind, Failure, HistoryEvent, Run, TextMap, TimeoutDetails};
use crate::id::{ExecutionId, InstanceId, NodeId};
use crate::node::options::RuntimeOptions;
use crate::payload::Payload;
use crate::policy::{Limits, Timeout};
use crate::provider::{ActivityTransactions, EventRow, Lease, Tenure};
use crate::replay::{Failed, in_instance, panicked};
use crate::telemetry::spans::AttemptFields;
use crate::telemetry::{self, ActivityMetrics, spans};

/// The facts about an attempt, from its beginning to its end.
pub(in crate::node) struct AttemptFacts {
    pub(in crate::node) tenure: Tenure,
    pub(in crate::node) scheduled: Box<ActivityScheduled>,
    /// The end of its schedule-to-close limit.
    pub(in crate::node) deadline: Option<Timestamp>,
    /// When this node began it.
    pub(in crate::node) began: Timestamp,
    /// The attempt as it is recorded. `None`: an eager one.
    pub(in crate::node) origin: Option<Run>,
    pub(in crate::node) metrics: Arc<ActivityMetrics>,
}

/// An attempt to be run.
pub(in crate::node) struct Attempt {
    /// The lease that owns the activity.
    pub(in crate::node) lease: Lease,
    pub(in crate::node) facts: Arc<AttemptFacts>,
    /// The number of this run on the node.
    pub(in crate::node) run: u64,
    pub(in crate::node) input: Payload,
    pub(in crate::node) headers: TextMap,
    /// The time since it was scheduled.
    pub(in crate::node) age: Duration,
}

/// How an attempt ended.
pub(in crate::node) struct AttemptDone {
    pub(in crate::node) facts: Arc<AttemptFacts>,
    pub(in crate::node) run: u64,
    pub(in crate::node) end: AttemptEnd,
    /// Closes once the thread of the attempt is free: blocking code cannot be dropped while it waits. `None`: the
    /// thread is free.
    pub(in crate::node) busy_thread: Option<BusyThread>,
}

/// Closes when a thread is free.
pub(in crate::node) type BusyThread = oneshot::Receiver<std::convert::Infallible>;

pub(in crate::node) enum AttemptEnd {
    Completed(Payload),
    /// The error, and true if another attempt may succeed.
    Failed(Failed, bool),
    /// The input cannot be read by this code.
    Unreadable(String),
    /// The transaction of the activity did not end within its limit.
    TimedOut,
    /// Its outcome is no longer wanted, and it was dropped; or it is stored already.
    Abandoned,
}

/// The parts of the node that an attempt uses.
pub(in crate::node) struct AttemptEnv {
    states: Arc<States>,
    transactions: ActivityTransactions,
    clock: Arc<dyn Clock>,
    blocking: BlockingPool,
    polls: PollWatch,
    limits: Limits,
    node: NodeId,
}

impl AttemptEnv {
    pub(in crate::node) fn new(
        states: States,
        transactions: ActivityTransactions,
        clock: Arc<dyn Clock>,
        node: NodeId,
        options: &RuntimeOptions,
    ) -> Self {
        let blocking = BlockingPool::new(options.max_blocking_activities);
        let polls = PollWatch::start(options.activity_warning, clock.clone());
        Self { states: Arc::new(states), transactions, clock, blocking, polls, limits: options.limits, node }
    }

    /// Returns the view of the polls that run.
    pub(in crate::node) fn polls(&self) -> PollView {
        self.polls.view()
    }
}

impl Attempt {
    /// Reads the event that schedules an activity.
    pub(in crate::node) fn parse(row: EventRow, headers: TextMap) -> Result<ScheduledActivity, String> {
        let event = HistoryEvent::try_from(row).map_err(|e| e.to_string())?;
        match event.kind {
            EventKind::Decision(Decision::ActivityScheduled(scheduled)) => {
                Ok(ScheduledActivity { scheduled, input: event.payload, time: event.time, headers })
            }
            _ => Err(format!("event {} does not schedule an activity", event.id)),
        }
    }

    /// Returns the span of the attempt.
    fn span(&self, env: &AttemptEnv) -> Span {
        let AttemptFacts { tenure: Tenure { activity, attempt, .. }, scheduled, .. } = &*self.facts;
        let ExecutionId { instance, number, .. } = &activity.execution;
        let span = spans::attempt(&AttemptFields {
            instance,
            execution: *number,
            activity: &scheduled.name,
            call: &activity.call,
            attempt: *attempt,
            node: &env.node,
        });
        if !span.is_disabled() {
            telemetry::follow(&span, &self.headers, self.age);
        }
        span
    }

    /// Runs the activity. Dropping the future drops the code of an async activity at its current await.
    pub(in crate::node) async fn run(
        self,
        code: ActivityCode,
        env: Arc<AttemptEnv>,
        cancel: CancelSignal,
    ) -> AttemptDone {
        let span = self.span(&env);
        let Self { lease, facts, run, input, headers, .. } = self;
        let AttemptFacts { tenure, scheduled, .. } = &*facts;
        let (limit, name) = (scheduled.options.start_to_close, &scheduled.name);
        let transaction_limit = limit.unwrap_or(TRANSACTION_LIMIT);
        let transaction = env.transactions.attempt(lease, tenure.clone(), transaction_limit, facts.origin.clone());
        let ctx = ActivityContext::new(transaction, env.limits, headers, cancel.clone(), env.states.clone());
        let RunningCode { begun, code, busy_thread } = run_code(code, &env, ctx, input, &facts, &span);
        // A single async block, because moved parts would enlarge the future: its memory is allocated for each attempt, and
        // an allocation of more than a kilobyte takes several times as long.
        let end = AssertUnwindSafe(async {
            let limited = pin!(async {
                // The limit does not include the time in which no thread can be started.
                if let Some(begun) = begun {
                    begun.await;
                }
                let Some(limit) = limit else { return code.await };
                let (until, begun) = (env.clock.now() + limit, Instant::now());
                // Outside of tokio's budget: code that uses up the budget in each poll would otherwise starve the timer.
                let timer = unconstrained(env.clock.sleep_until(until));
                match select(code, timer).await {
                    // Code that has blocked the timer may return later than the limit. Both clocks count: that of the system
                    // may have been set, and a virtual one stands still while code runs.
                    Either::Left((end, _)) if begun.elapsed() <= limit || env.clock.now() <= until => end,
                    _ => AttemptEnd::Failed(start_to_close(name, limit, tenure.attempt).into(), true),
                }
            });
            let abandoned = pin!(async {
                unconstrained(cancel.cancelled()).await;
                if cancel.is_observed() {
                    // The activity has observed the signal, and ends on its own.
                    std::future::pending::<()>().await;
                }
            });
            match select(limited, abandoned).await {
                Either::Left((end, _)) => end,
                Either::Right(_) => AttemptEnd::Abandoned,
            }
        });
        // The code may be dropped while it waits, and its destructors may panic.
        let end = end.catch_unwind().await;
        let end = end.unwrap_or_else(|panic| AttemptEnd::Failed(panicked(&*panic), true));
        let end = match end {
            AttemptEnd::TimedOut => {
                AttemptEnd::Failed(start_to_close(name, transaction_limit, tenure.attempt).into(), true)
            }
            end => end.in_instance(&tenure.activity.execution.instance),
        };
        let busy_thread = busy_thread.and_then(|mut thread| thread.try_recv().is_err_and(is_empty).then_some(thread));
        if busy_thread.is_some() {
            // The code may check the signal, and end on its own.
            cancel.cancel();
        }
        AttemptDone { facts, run, end, busy_thread }
    }
}

/// Returns the failure of an attempt whose start-to-close limit has passed.
pub(in crate::node) fn start_to_close(activity: &str, limit: Duration, attempt: u32) -> Failure {
    let details =
        TimeoutDetails { activity: activity.to_owned(), after: Some(limit), attempts: Some(attempt), last: None };
    Failure::TimedOut { limit: Timeout::StartToClose, details: Some(Box::new(details)) }
}

fn is_empty(error: TryRecvError) -> bool {
    error == TryRecvError::Empty
}

/// The code of an activity that is called.
struct RunningCode {
    /// Resolves once there is a thread for blocking code. Awaited first.
    begun: Option<BoxFuture<'static, ()>>,
    code: BoxFuture<'static, AttemptEnd>,
    busy_thread: Option<BusyThread>,
}

/// Calls the code: async code in the returned future, blocking code on a thread. A panic is returned as an error.
fn run_code(
    code: ActivityCode,
    env: &AttemptEnv,
    ctx: ActivityContext,
    input: Payload,
    facts: &Arc<AttemptFacts>,
    span: &Span,
) -> RunningCode {
    let span = span.clone();
    let (mut busy_thread, mut begun) = (None, None);
    let ended = match code {
        ActivityCode::Async(run) => {
            let code = async move { run(ctx, input).await }.instrument(span);
            AssertUnwindSafe(env.polls.watch(facts, code)).catch_unwind().boxed()
        }
        #[cfg(feature = "testing")]
        ActivityCode::Replaced(run) => {
            let code = async move { run(ctx, input).await }.instrument(span);
            AssertUnwindSafe(env.polls.watch(facts, code)).catch_unwind().boxed()
        }
        ActivityCode::Blocking(run) => {
            let (done, finished) = oneshot::channel();
            let (busy, free) = oneshot::channel();
            busy_thread = Some(free);
            let pool = env.blocking.clone();
            let job = move || {
                let ended = span.in_scope(|| std::panic::catch_unwind(AssertUnwindSafe(|| run(ctx, input))));
                drop(busy);
                // The receiver is dropped if the attempt has timed out or was abandoned.
                let _ = done.send(ended);
            };
            begun = Some(async move { pool.run(job).await }.boxed());
            async move { finished.await.unwrap_or_else(|_| Err(Box::new("the thread was lost"))) }.boxed()
        }
    };
    let limits = env.limits;
    let code = async move {
        match ended.await {
            Ok(ended) => AttemptEnd::from(ended).within(&limits),
            Err(panic) => AttemptEnd::Failed(panicked(&*panic), true),
        }
    };
    RunningCode { begun, code: code.boxed(), busy_thread }
}

impl AttemptEnd {
    /// Puts the instance before the message of a panic.
    fn in_instance(self, instance: &InstanceId) -> Self {
        match self {
            Self::Failed(Failed { failure: failure @ Failure::Panicked { .. }, error, callee }, retryable) => {
                Self::Failed(Failed { failure: in_instance(failure, instance), error, callee }, retryable)
            }
            other => other,
        }
    }

    /// Replaces the end by a failure if the value is too long to be stored.
    fn within(self, limits: &Limits) -> Self {
        let checked = match &self {
            Self::Completed(output) => limits.check("the output of the activity", output),
            Self::Failed(failed, _) => limits.check("the error of the activity", &failed.error),
            Self::Unreadable(_) | Self::TimedOut | Self::Abandoned => Ok(()),
        };
        match checked {
            Ok(()) => self,
            Err(reason) => Self::Failed(Failure::Rejected { reason }.into(), false),
        }
    }
}

impl From<Ended> for AttemptEnd {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Completed(output) => Self::Completed(output),
            Ended::Failed { error, retryable } => {
                Self::Failed(Failed { failure: Failure::Application, error, callee: None }, retryable)
            }
            Ended::UnreadableInput(error) => Self::Unreadable(error.to_string()),
            Ended::Recorded => Self::Abandoned,
            Ended::TimedOut => Self::TimedOut,
            Ended::Unusable(reason) => {
                let reason = shortened(&format!("the transaction of the activity: {reason}"));
                Self::Failed(Failure::Rejected { reason }.into(), false)
            }
            Ended::UnstorableOutcome(error) => {
                let reason = shortened(&format!("the output of the activity: {error}"));
                Self::Failed(Failure::Rejected { reason }.into(), false)
            }
        }
    }
}
