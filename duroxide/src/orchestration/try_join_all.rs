//! Waiting for all futures of a collection, or for the first error.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future;

/// Waits for all futures of a collection, and returns their `Ok` values in the order of the collection, or the first
/// `Err`. On an `Err` the other futures are dropped, which cancels their calls.
///
/// The iterator is run at once, as in [`join_all`](super::join_all()).
///
/// # Errors
/// The first one that a future returns.
///
/// ```
/// use duroxide::prelude::*;
///
/// #[activity]
/// async fn price(item: u32) -> duroxide::Result<u64> {
///     Ok(u64::from(item) * 100)
/// }
///
/// #[orchestration]
/// async fn total(ctx: OrchestrationContext, items: Vec<u32>) -> duroxide::Result<u64> {
///     let prices = try_join_all(items.iter().map(|item| price::call(&ctx, *item))).await?;
///     Ok(prices.iter().sum())
/// }
/// ```
pub fn try_join_all<I, T, E>(futures: I) -> TryJoinAll<I::Item>
where
    I: IntoIterator,
    I::Item: Future<Output = Result<T, E>>,
{
    TryJoinAll { all: future::try_join_all(futures) }
}

/// The future of [`try_join_all`].
#[must_use = "the futures run when this is awaited"]
pub struct TryJoinAll<F: future::TryFuture> {
    all: future::TryJoinAll<F>,
}

impl<F, T, E> Future for TryJoinAll<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Vec<T>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().all).poll(context)
    }
}
