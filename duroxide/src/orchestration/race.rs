//! Waiting for the first future of a collection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{self, SelectAll};

/// Waits for the first future of a collection, and returns its position and its output. The others are dropped, which
/// cancels their calls. If several are ready, the first of them in the collection wins. An empty collection waits
/// forever, which the runtime reports.
///
/// The iterator is run at once, as in [`join_all`](super::join_all()).
///
/// ```
/// use duroxide::prelude::*;
///
/// #[activity]
/// async fn quote(shop: u32) -> duroxide::Result<u64> {
///     Ok(u64::from(shop) * 10)
/// }
///
/// #[orchestration]
/// async fn fastest(ctx: OrchestrationContext, shops: Vec<u32>) -> duroxide::Result<u32> {
///     let (position, quote) = race(shops.iter().map(|shop| quote::call(&ctx, *shop))).await;
///     tracing::info!(quote = quote?, "first answer");
///     Ok(shops[position])
/// }
/// ```
pub fn race<I>(futures: I) -> Race<I::Item>
where
    I: IntoIterator,
    I::Item: Future + Unpin,
{
    let futures: Vec<_> = futures.into_iter().collect();
    Race { running: (!futures.is_empty()).then(|| future::select_all(futures)) }
}

/// The future of [`race`].
#[must_use = "the futures run when this is awaited"]
pub struct Race<F> {
    /// `None` for an empty collection, and once there is a winner.
    running: Option<SelectAll<F>>,
}

impl<F: Future + Unpin> Future for Race<F> {
    type Output = (usize, F::Output);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let running = &mut self.get_mut().running;
        let Some(select) = running else { return Poll::Pending };
        let Poll::Ready((output, position, _others)) = Pin::new(select).poll(context) else { return Poll::Pending };
        *running = None;
        Poll::Ready((position, output))
    }
}
