//! Activities whose code and outcome are one transaction.

use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::handler::{Ended, ended};
use super::{Activity, ActivityContext, State, StateType};
use crate::backoff::Backoff;
use crate::history::Input;
use crate::message::Message;
use crate::payload::{Payload, Storable, read_input};
use crate::provider::{
    ActivityTransaction, BlockingTransactionBody, BlockingTransactionSource, MessageRow, TransactionBody,
    TransactionEnd, TransactionSource, WithinError,
};

/// The longest time of a transaction, unless the activity has a time limit.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// An async activity that runs in a transaction. `#[activity(transactional)]` implements it for `async fn`.
pub trait TransactionalFn: Activity {
    /// The transaction, with any lifetime.
    type Transaction: ActivityTransaction<Source: TransactionSource>;

    /// See [`ActivityFn::requires`](super::ActivityFn::requires).
    fn requires() -> Vec<StateType> {
        Vec::new()
    }

    /// See [`ActivityFn::is_retryable`](super::ActivityFn::is_retryable).
    fn is_retryable(_error: &Self::Error) -> bool {
        true
    }

    /// Runs one attempt.
    fn run(
        ctx: ActivityContext,
        tx: &mut <<Self::Transaction as ActivityTransaction>::Source as TransactionSource>::Tx<'_>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// A blocking activity that runs in a transaction. `#[activity(transactional)]` implements it for a plain `fn`.
pub trait BlockingTransactionalFn: Activity {
    /// The transaction, with any lifetime.
    type Transaction: ActivityTransaction<Source: BlockingTransactionSource>;

    /// See [`ActivityFn::requires`](super::ActivityFn::requires).
    fn requires() -> Vec<StateType> {
        Vec::new()
    }

    /// See [`ActivityFn::is_retryable`](super::ActivityFn::is_retryable).
    fn is_retryable(_error: &Self::Error) -> bool {
        true
    }

    /// Runs one attempt.
    #[expect(clippy::missing_errors_doc, reason = "the errors are the user's own")]
    fn run(
        ctx: ActivityContext,
        tx: &mut <<Self::Transaction as ActivityTransaction>::Source as BlockingTransactionSource>::Tx<'_>,
        input: Self::Input,
    ) -> Result<Self::Output, Self::Error>;
}

type SourceOf<A> = <<A as TransactionalFn>::Transaction as ActivityTransaction>::Source;
/// The state of the program that the transaction of an activity begins with.
type StateOf<A> = <SourceOf<A> as TransactionSource>::State;

/// Returns the states that an async activity needs, with that of its transaction.
pub(crate) fn required_states<A: TransactionalFn>() -> Vec<StateType> {
    let mut states = A::requires();
    states.push(StateType::of::<StateOf<A>>());
    states
}

/// The code of one attempt. It runs again if the transaction has collided with another one.
struct Body<A> {
    ctx: ActivityContext,
    input: Payload,
    /// The last end of the code.
    ended: Option<Ended>,
    activity: std::marker::PhantomData<fn() -> A>,
}

impl<A: Activity> Body<A> {
    fn new(ctx: ActivityContext, input: Payload) -> Self {
        Self { ctx, input, ended: None, activity: std::marker::PhantomData }
    }

    /// Keeps the end of the code. Returns the message with the outcome, if the code has succeeded before the node has ended
    /// the attempt. The node measures its time limit from an earlier moment than the transaction does.
    fn keep(&mut self, result: Result<A::Output, A::Error>, is_retryable: fn(&A::Error) -> bool) -> Option<MessageRow>
    where
        A::Output: Storable,
        A::Error: Storable,
    {
        if self.ctx.is_stopped() {
            self.ended = Some(Ended::TimedOut);
            return None;
        }
        let (ended, limits) = (ended(result, is_retryable), self.ctx.limits());
        let message = match &ended {
            Ended::Completed(output) if limits.check("the output of the activity", output).is_ok() => {
                let id = self.ctx.id();
                let run = self.ctx.transaction().run.clone();
                let message = Message::new(Input::ActivityCompleted { call: id.call, run }, output.clone());
                Some(MessageRow::from(&message.for_execution(id.execution.number)))
            }
            _ => None,
        };
        self.ended = Some(ended);
        message
    }

    /// Returns the end of the attempt.
    fn end(self, end: TransactionEnd) -> Ended {
        match end {
            TransactionEnd::Committed | TransactionEnd::Fenced => Ended::Recorded,
            TransactionEnd::TimedOut => Ended::TimedOut,
            TransactionEnd::Unusable(reason) => Ended::Unusable(reason),
            TransactionEnd::RolledBack => self.ended.unwrap_or(Ended::TimedOut),
        }
    }
}

impl<A: TransactionalFn> TransactionBody<SourceOf<A>> for Body<A> {
    fn run<'b>(
        &'b mut self,
        tx: &'b mut <SourceOf<A> as TransactionSource>::Tx<'_>,
    ) -> BoxFuture<'b, Option<MessageRow>> {
        Box::pin(async move {
            match read_input(&self.input) {
                Ok(input) => {
                    let result = A::run(self.ctx.clone(), tx, input).await;
                    self.keep(result, A::is_retryable)
                }
                Err(error) => {
                    self.ended = Some(Ended::UnreadableInput(error));
                    None
                }
            }
        })
    }
}

impl<A: BlockingTransactionalFn> BlockingTransactionBody<<A::Transaction as ActivityTransaction>::Source> for Body<A> {
    fn run(
        &mut self,
        tx: &mut <<A::Transaction as ActivityTransaction>::Source as BlockingTransactionSource>::Tx<'_>,
    ) -> Option<MessageRow> {
        match read_input(&self.input) {
            Ok(input) => {
                let result = A::run(self.ctx.clone(), tx, input);
                self.keep(result, A::is_retryable)
            }
            Err(error) => {
                self.ended = Some(Ended::UnreadableInput(error));
                None
            }
        }
    }
}

/// Runs an attempt. A failure of the storage is not an outcome: the transaction is repeated until it is known how it ended, or
/// until the attempt is dropped.
pub(super) fn run_transactional<A: TransactionalFn>(ctx: ActivityContext, input: Payload) -> BoxFuture<'static, Ended> {
    Box::pin(async move {
        let (attempt, mut backoff) = (ctx.transaction().clone(), Backoff::default());
        let Some(State(state)) = ctx.state::<StateOf<A>>() else {
            return Ended::Unusable(format!("the program has no `{}`", std::any::type_name::<StateOf<A>>()));
        };
        loop {
            let mut body = Body::<A>::new(ctx.clone(), input.clone());
            match SourceOf::<A>::run(&attempt, &state, &mut body).await {
                Ok(end) => return body.end(end),
                Err(error) => report(&ctx, &error),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    })
}

/// As [`run_transactional`], on the thread of a blocking activity.
pub(super) fn run_blocking_transactional<A: BlockingTransactionalFn>(ctx: ActivityContext, input: Payload) -> Ended {
    let (attempt, mut backoff) = (ctx.transaction().clone(), Backoff::default());
    loop {
        let mut body = Body::<A>::new(ctx.clone(), input.clone());
        match <A::Transaction as ActivityTransaction>::Source::run(&attempt, &mut body) {
            Ok(end) => return body.end(end),
            Err(error) => report(&ctx, &error),
        }
        if ctx.is_stopped() {
            return Ended::TimedOut;
        }
        std::thread::sleep(backoff.next());
    }
}

fn report(ctx: &ActivityContext, error: &WithinError) {
    tracing::warn!(activity = %ctx.id(), %error, "the transaction of an activity is repeated");
}
