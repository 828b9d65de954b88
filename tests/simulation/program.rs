//! Small programs that use all operations of an orchestration, and the orchestration that interprets them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::{OrchestrationContext, select};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A program continues as new at most this often.
const ROUNDS: u32 = 3;

/// The input of the orchestration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) round: u32,
    pub(crate) statements: Vec<Statement>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Statement {
    Do(Op),
    /// Builds the operation's future, and holds it without polling it.
    Hold(Op),
    /// Builds the operation's future, polls it once, and holds it.
    HoldPolled(Op),
    PollHeld,
    AwaitHeld,
    /// Adds the operation's future to a `FuturesUnordered`.
    Spawn(Op),
    /// Awaits the next future of the `FuturesUnordered`.
    Next,
    /// Awaits the first operation or a cancel; after a cancel, awaits the second operation, and continues.
    UnlessCancelled(Op, Op),
    CheckCancelled,
    Return,
    Fail,
    Panic,
    ContinueAsNew(Option<String>),
}

/// An operation that can be awaited.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Op {
    Activity {
        failures: u32,
        attempts: u32,
        timeout: Option<u64>,
        deadline: Option<u64>,
        detached: bool,
    },
    Blocking(u32),
    Polite(u64),
    Refused,
    Timer(u64),
    Child {
        program: Program,
        close: ClosePolicy,
        id: Option<String>,
    },
    DetachedStart {
        program: Program,
        id: Option<String>,
    },
    Wait(Name),
    Try(Name),
    Drain(Name),
    /// Drops the oldest held future, while other branches wait.
    DropHeld,
    Random,
    /// Wakes its own task once, as fair combinators do.
    Yield,
    Sequence(Vec<Op>),
    Join(Vec<Op>),
    Race(Vec<Op>),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Name {
    A,
    B,
}

#[event]
pub(crate) struct A(u64);

#[event]
pub(crate) struct B(u64);

/// The values that a program has seen, which are its output.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn saw(&self, value: impl std::fmt::Debug) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{value:?}"));
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Futures that were built and are not awaited.
#[derive(Default)]
struct Held(Mutex<VecDeque<BoxFuture<'static, ()>>>);

impl Held {
    fn pop(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn push(&self, future: BoxFuture<'static, ()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(future);
    }

    async fn push_polled(&self, mut future: BoxFuture<'static, ()>) {
        if std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await.is_pending() {
            self.push(future);
        }
    }
}

/// The state that the operations of a running program share.
#[derive(Clone)]
struct Env {
    ctx: OrchestrationContext,
    seen: Seen,
    /// Weak, since the held futures own clones of this value.
    held: Weak<Held>,
}

#[orchestration]
async fn program(ctx: OrchestrationContext, program: Program) -> Result<Vec<String>, String> {
    interpret(ctx, program).await
}

#[orchestration(name = "program", version = "2.0.0", handle = ProgramTwo)]
async fn program_two(ctx: OrchestrationContext, program: Program) -> Result<Vec<String>, String> {
    interpret(ctx, program).await
}

async fn interpret(ctx: OrchestrationContext, program: Program) -> Result<Vec<String>, String> {
    let held = Arc::new(Held::default());
    let seen = Seen::default();
    let env = Env { ctx: ctx.clone(), seen: seen.clone(), held: Arc::downgrade(&held) };
    let mut spawned = FuturesUnordered::new();
    for statement in &program.statements {
        seen.saw(ctx.now());
        match statement {
            Statement::Do(op) => op.build(&env).await,
            Statement::Hold(op) => held.push(op.build(&env)),
            Statement::HoldPolled(op) => held.push_polled(op.build(&env)).await,
            Statement::PollHeld => {
                if let Some(future) = held.pop() {
                    held.push_polled(future).await;
                }
            }
            Statement::AwaitHeld => {
                if let Some(future) = held.pop() {
                    future.await;
                }
            }
            Statement::Spawn(op) => spawned.push(op.build(&env)),
            Statement::Next => seen.saw(spawned.next().await),
            Statement::UnlessCancelled(op, otherwise) => {
                let reason = select! {
                    reason = ctx.cancelled() => reason,
                    () = op.build(&env) => continue,
                };
                seen.saw(reason);
                otherwise.build(&env).await;
            }
            Statement::CheckCancelled => seen.saw(ctx.cancel_requested()),
            Statement::Return => break,
            Statement::Fail => return Err("as the program says".to_owned()),
            Statement::Panic => std::panic::resume_unwind(Box::new("as the program says")),
            Statement::ContinueAsNew(version) if program.round < ROUNDS => {
                let next = ctx.continue_as_new(&Program { round: program.round + 1, ..program.clone() });
                return match version {
                    Some(version) => next.version(version).await,
                    None => next.await,
                };
            }
            Statement::ContinueAsNew(_) => {}
        }
    }
    Ok(seen.all())
}

impl Op {
    /// Builds the operation's future. Its calls claim their ids now, except for later parts of a sequence.
    fn build(&self, env: &Env) -> BoxFuture<'static, ()> {
        let (ctx, seen) = (&env.ctx, env.seen.clone());
        match self {
            Self::Activity { failures, attempts, timeout, deadline, detached } => {
                let mut retry = RetryPolicy::new().initial_interval(Duration::from_millis(100));
                if *attempts > 0 {
                    retry = retry.max_attempts(*attempts);
                }
                let mut call = ctx.call_activity::<u32>("work", failures).retry(retry);
                if let Some(limit) = timeout {
                    call = call.timeout(Duration::from_millis(*limit));
                }
                if let Some(limit) = deadline {
                    call = call.schedule_to_close(Duration::from_millis(*limit));
                }
                if *detached {
                    call = call.detached();
                }
                Box::pin(async move { seen.saw(call.await) })
            }
            Self::Blocking(n) => {
                let call = ctx.call_activity::<u32>("blocking", n);
                Box::pin(async move { seen.saw(call.await) })
            }
            Self::Polite(millis) => {
                let call = ctx.call_activity::<bool>("polite", millis);
                Box::pin(async move { seen.saw(call.await) })
            }
            Self::Refused => {
                let call = ctx.call_activity::<Value>("", &());
                Box::pin(async move { seen.saw(call.await) })
            }
            Self::Timer(millis) => {
                let sleep = ctx.sleep(Duration::from_millis(*millis));
                Box::pin(async move {
                    sleep.await;
                    seen.saw("slept");
                })
            }
            Self::Child { program, close, id } => {
                let mut call = ctx.call_orchestration::<Value>("program", program).on_parent_close(*close);
                if let Some(id) = id {
                    call = call.id(id);
                }
                Box::pin(async move { seen.saw(call.await) })
            }
            Self::DetachedStart { program, id } => {
                let mut call = ctx.call_orchestration::<Value>("program", program);
                if let Some(id) = id {
                    call = call.id(id);
                }
                let start = call.detached();
                Box::pin(async move { seen.saw(start.await) })
            }
            Self::Wait(name) => {
                let wait = ctx.event_named::<u64>(name.text());
                Box::pin(async move { seen.saw(wait.await) })
            }
            Self::Try(name) => {
                let (name, ctx) = (*name, ctx.clone());
                Box::pin(async move {
                    seen.saw(match name {
                        Name::A => ctx.try_event().map(|A(number)| number),
                        Name::B => ctx.try_event().map(|B(number)| number),
                    });
                })
            }
            Self::Drain(name) => {
                let (name, ctx) = (*name, ctx.clone());
                Box::pin(async move {
                    let numbers: Vec<u64> = match name {
                        Name::A => ctx.drain().into_iter().map(|A(number)| number).collect(),
                        Name::B => ctx.drain().into_iter().map(|B(number)| number).collect(),
                    };
                    seen.saw(numbers);
                })
            }
            Self::DropHeld => {
                let held = env.held.clone();
                Box::pin(async move { drop(held.upgrade().and_then(|held| held.pop())) })
            }
            Self::Random => {
                let ctx = ctx.clone();
                Box::pin(async move { seen.saw((ctx.random(), ctx.uuid())) })
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
                // Polled in the reverse order of building.
                Box::pin(async move { drop(join_all(branches.into_iter().rev()).await) })
            }
            Self::Race(ops) => {
                let branches: Vec<_> = ops.iter().map(|op| op.build(env)).collect();
                Box::pin(async move { seen.saw(race(branches).await.0) })
            }
        }
    }
}

impl Name {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::A => A::NAME,
            Self::B => B::NAME,
        }
    }
}

/// Returns numbers below a limit, derived from a seed.
pub(crate) type Numbers<'a> = dyn FnMut(u64) -> u64 + 'a;

impl Program {
    /// Returns a random program with at most `depth` generations of children.
    pub(crate) fn any(numbers: &mut Numbers<'_>, depth: u64) -> Self {
        let length = 1 + numbers(if depth > 1 { 8 } else { 4 });
        Self { round: 1, statements: (0..length).map(|_| Statement::any(numbers, depth)).collect() }
    }
}

impl Statement {
    fn any(numbers: &mut Numbers<'_>, depth: u64) -> Self {
        let op = |numbers: &mut Numbers<'_>| Op::any(numbers, depth, 2);
        match numbers(40) {
            0..16 => Self::Do(op(numbers)),
            16..18 => Self::Hold(op(numbers)),
            18..23 => Self::HoldPolled(op(numbers)),
            23 => Self::PollHeld,
            24 | 25 => Self::AwaitHeld,
            26..29 => Self::Spawn(op(numbers)),
            29 | 30 => Self::Next,
            31..34 => Self::UnlessCancelled(op(numbers), op(numbers)),
            34 => Self::CheckCancelled,
            35 => match numbers(4) {
                0 => Self::Return,
                1 => Self::Fail,
                2 => Self::Panic,
                _ => Self::Do(Op::DropHeld),
            },
            36 => Self::Do(Op::DropHeld),
            _ => Self::ContinueAsNew(match numbers(4) {
                0 => Some("1.0.0".to_owned()),
                1 => Some("2.0.0".to_owned()),
                _ => None,
            }),
        }
    }
}

impl Op {
    fn any(numbers: &mut Numbers<'_>, depth: u64, nesting: u64) -> Self {
        let name = |numbers: &mut Numbers<'_>| if numbers(4) == 0 { Name::B } else { Name::A };
        let millis = |numbers: &mut Numbers<'_>| [0, 1, 100, 2_000, 15_000][numbers(5) as usize];
        let maybe = |numbers: &mut Numbers<'_>| if numbers(4) == 0 { Some(millis(numbers)) } else { None };
        // Few ids, so that some of them are taken.
        let id = |numbers: &mut Numbers<'_>| if numbers(4) == 0 { Some(format!("named-{}", numbers(3))) } else { None };
        let several = |numbers: &mut Numbers<'_>| {
            let count = 1 + numbers(3);
            (0..count).map(|_| Self::any(numbers, depth, nesting - 1)).collect::<Vec<_>>()
        };
        match numbers(if nesting > 0 { 34 } else { 25 }) {
            0..5 => Self::Activity {
                failures: numbers(3) as u32,
                attempts: numbers(4) as u32,
                timeout: maybe(numbers),
                deadline: maybe(numbers),
                detached: numbers(6) == 0,
            },
            5 => Self::Blocking(numbers(8) as u32),
            6 => Self::Polite(millis(numbers)),
            7 => Self::Refused,
            8..11 => Self::Timer(millis(numbers)),
            11..13 if depth > 0 => {
                let close = [ClosePolicy::Cancel, ClosePolicy::Cancel, ClosePolicy::Terminate, ClosePolicy::Abandon];
                let close = close[numbers(4) as usize];
                Self::Child { program: Program::any(numbers, depth - 1), close, id: id(numbers) }
            }
            13 if depth > 0 => Self::DetachedStart { program: Program::any(numbers, depth - 1), id: id(numbers) },
            11..19 => Self::Wait(name(numbers)),
            19 => Self::Try(name(numbers)),
            20 => Self::Drain(name(numbers)),
            21 => Self::DropHeld,
            22 => Self::Random,
            23 | 24 => Self::Yield,
            25..28 => Self::Sequence(several(numbers)),
            28..31 => Self::Join(several(numbers)),
            _ => Self::Race(several(numbers)),
        }
    }
}
