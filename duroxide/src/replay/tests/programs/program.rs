//! Small programs, and the orchestration that interprets them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::orchestration::{Event, OrchestrationContext, join_all, race};
use crate::replay::Function;
use crate::replay::tests::support::{self, poll_once};

/// A program continues as new at most this often.
const ROUNDS: u64 = 3;

/// A statement of a program.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    Do(Op),
    /// Builds the operation, and holds its future without polling it.
    Hold(Op),
    /// Builds the operation, polls its future once, and holds it.
    HoldPolled(Op),
    /// Polls the oldest held future.
    PollHeld,
    AwaitHeld,
    /// Builds the operation, and adds its future to an unordered collection.
    Spawn(Op),
    /// Awaits one future of the collection.
    Next,
    /// Does the operation unless a cancel request comes first.
    UnlessCancelled(Op),
    Return,
    ContinueAsNew,
}

/// Something to be awaited.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Activity,
    DetachedActivity,
    Refused,
    Timer(u8),
    Child,
    DetachedStart,
    Wait(Name),
    Try(Name),
    Drain(Name),
    /// Drops the oldest held future, while other branches wait.
    DropHeld,
    Random,
    /// Wakes itself, as fair combinators do.
    Yield,
    Sequence(Vec<Op>),
    Join(Vec<Op>),
    Select(Vec<Op>),
}

/// The name of an event.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    A,
    B,
}

#[derive(Serialize, Deserialize)]
struct A(u64);

#[derive(Serialize, Deserialize)]
struct B(u64);

impl Event for A {
    const NAME: &'static str = "A";
}

impl Event for B {
    const NAME: &'static str = "B";
}

impl Name {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::A => A::NAME,
            Self::B => B::NAME,
        }
    }
}

/// One observation of a program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Seen {
    Consumed { name: &'static str, number: u64, waited: bool },
    Other(String),
}

/// The observations of a program, in order.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<Seen>>>);

impl Trace {
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    fn consumed(&self, name: Name, number: u64, waited: bool) {
        self.push(Seen::Consumed { name: name.text(), number, waited });
    }

    fn saw(&self, value: impl std::fmt::Debug) {
        self.push(Seen::Other(format!("{value:?}")));
    }
}

/// Futures that were built and are not awaited yet.
#[derive(Default)]
struct Held(Mutex<VecDeque<BoxFuture<'static, ()>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, VecDeque<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<BoxFuture<'static, ()>> {
        self.lock().pop_front()
    }
}

/// The environment that the operations of a running program share.
#[derive(Clone)]
struct Env {
    ctx: OrchestrationContext,
    trace: Trace,
    /// Weak, because the held futures own this environment.
    held: Weak<Held>,
}

/// Makes the orchestration that runs a program. Its input is the number of the round; its output is its observations.
pub(super) fn function(program: &[Statement], trace: &Trace) -> Arc<Function> {
    let (program, trace) = (Arc::<[Statement]>::from(program), trace.clone());
    support::function(move |ctx, round| run(ctx, round.as_u64().unwrap_or_default(), program.clone(), trace.clone()))
}

async fn run(
    ctx: OrchestrationContext,
    round: u64,
    program: Arc<[Statement]>,
    trace: Trace,
) -> support::Result<Vec<Seen>> {
    let held = Arc::new(Held::default());
    let env = Env { ctx: ctx.clone(), trace: trace.clone(), held: Arc::downgrade(&held) };
    let mut spawned = FuturesUnordered::new();
    for statement in program.iter() {
        trace.saw(ctx.now());
        match statement {
            Statement::Do(op) => op.build(&env).await,
            Statement::Hold(op) => held.lock().push_back(op.build(&env)),
            Statement::HoldPolled(op) => {
                let mut future = op.build(&env);
                if poll_once(&mut future).await.is_pending() {
                    held.lock().push_back(future);
                }
            }
            Statement::PollHeld => {
                if let Some(mut future) = held.pop()
                    && poll_once(&mut future).await.is_pending()
                {
                    held.lock().push_front(future);
                }
            }
            Statement::AwaitHeld => {
                if let Some(future) = held.pop() {
                    future.await;
                }
            }
            Statement::Spawn(op) => spawned.push(op.build(&env)),
            Statement::Next => trace.saw(spawned.next().await),
            Statement::UnlessCancelled(op) => crate::select! {
                reason = ctx.cancelled() => trace.saw(reason),
                () = op.build(&env) => {}
            },
            Statement::Return => break,
            Statement::ContinueAsNew if round < ROUNDS => return ctx.continue_as_new(&(round + 1)).await,
            Statement::ContinueAsNew => {}
        }
    }
    Ok(trace.seen())
}

impl Op {
    /// Builds the calls of the operation, which claims their numbers. The later calls of a sequence are built when the
    /// earlier ones have completed.
    fn build(&self, env: &Env) -> BoxFuture<'static, ()> {
        let (ctx, log) = (&env.ctx, env.trace.clone());
        match self {
            Self::Activity => {
                let call = ctx.call_activity::<Value>("activity", &ctx.random());
                Box::pin(async move { log.saw(call.await) })
            }
            Self::DetachedActivity => {
                let call = ctx.call_activity::<Value>("detached", &()).detached();
                Box::pin(async move { log.saw(call.await) })
            }
            Self::Refused => {
                let call = ctx.call_activity::<Value>("", &());
                Box::pin(async move { log.saw(call.await) })
            }
            Self::Timer(seconds) => {
                let sleep = ctx.sleep(Duration::from_secs(u64::from(*seconds)));
                Box::pin(async move {
                    sleep.await;
                    log.saw("slept");
                })
            }
            Self::Child => {
                let call = ctx.call_orchestration::<Value>("child", &ctx.uuid());
                Box::pin(async move { log.saw(call.await) })
            }
            Self::DetachedStart => {
                let start = ctx.call_orchestration::<Value>("detached", &()).detached();
                Box::pin(async move { log.saw(start.await) })
            }
            Self::Wait(name) => {
                let (name, wait) = (*name, ctx.event_named(name.text()));
                Box::pin(async move { log.consumed(name, wait.await, true) })
            }
            Self::Try(name) => {
                let (name, ctx) = (*name, ctx.clone());
                Box::pin(async move {
                    let number = match name {
                        Name::A => ctx.try_event().map(|A(number)| number),
                        Name::B => ctx.try_event().map(|B(number)| number),
                    };
                    number.into_iter().for_each(|number| log.consumed(name, number, false));
                })
            }
            Self::Drain(name) => {
                let (name, ctx) = (*name, ctx.clone());
                Box::pin(async move {
                    let numbers: Vec<_> = match name {
                        Name::A => ctx.drain().into_iter().map(|A(number)| number).collect(),
                        Name::B => ctx.drain().into_iter().map(|B(number)| number).collect(),
                    };
                    numbers.into_iter().for_each(|number| log.consumed(name, number, false));
                })
            }
            Self::DropHeld => {
                let held = env.held.clone();
                Box::pin(async move { drop(held.upgrade().and_then(|held| held.pop())) })
            }
            Self::Random => {
                let ctx = ctx.clone();
                Box::pin(async move { log.saw((ctx.random(), ctx.uuid())) })
            }
            Self::Yield => {
                let mut yielded = false;
                Box::pin(std::future::poll_fn(move |context| {
                    if std::mem::replace(&mut yielded, true) {
                        return Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                }))
            }
            Self::Sequence(ops) => {
                let (ops, env) = (ops.clone(), env.clone());
                Box::pin(async move {
                    for op in ops {
                        op.build(&env).await;
                    }
                })
            }
            Self::Join(ops) => {
                let branches: Vec<_> = ops.iter().map(|op| op.build(env)).collect();
                // The newest future is polled first.
                Box::pin(async move { drop(join_all(branches.into_iter().rev()).await) })
            }
            Self::Select(ops) => {
                let branches: Vec<_> = ops.iter().map(|op| op.build(env)).collect();
                Box::pin(async move { log.saw(race(branches).await.0) })
            }
        }
    }
}

pub(super) fn any() -> impl Strategy<Value = Vec<Statement>> {
    let statement = prop_oneof![
        8 => op().prop_map(Statement::Do),
        2 => op().prop_map(Statement::Hold),
        4 => op().prop_map(Statement::HoldPolled),
        1 => Just(Statement::PollHeld),
        1 => Just(Statement::AwaitHeld),
        1 => Just(Statement::Do(Op::DropHeld)),
        2 => op().prop_map(Statement::Spawn),
        2 => Just(Statement::Next),
        2 => op().prop_map(Statement::UnlessCancelled),
        1 => prop_oneof![Just(Statement::Return), Just(Statement::ContinueAsNew), Just(Statement::ContinueAsNew)],
    ];
    prop::collection::vec(statement, 1..10)
}

fn op() -> impl Strategy<Value = Op> {
    let name = || prop_oneof![3 => Just(Name::A), 1 => Just(Name::B)];
    let leaf = prop_oneof![
        4 => Just(Op::Activity),
        1 => Just(Op::DetachedActivity),
        1 => Just(Op::Refused),
        2 => (0..5u8).prop_map(Op::Timer),
        2 => Just(Op::Child),
        1 => Just(Op::DetachedStart),
        5 => name().prop_map(Op::Wait),
        1 => name().prop_map(Op::Try),
        1 => name().prop_map(Op::Drain),
        2 => Just(Op::DropHeld),
        1 => Just(Op::Random),
        1 => Just(Op::Yield),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Op::Sequence),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Op::Join),
            prop::collection::vec(inner, 1..4).prop_map(Op::Select),
        ]
    })
}
