//! Waiting for all futures of a collection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future;

/// Waits for all futures of a collection, which run concurrently, and returns their outputs in the order of the
/// collection. The cost of n futures is O(n).
///
/// The iterator is run at once, so that the calls get their ids in its order; they are scheduled when the returned
/// future is first polled.
///
/// ```
/// use duroxide::prelude::*;
///
/// #[activity]
/// async fn resize(image: String, width: u32) -> duroxide::Result<usize> {
///     Ok(image.len() * width as usize)
/// }
///
/// #[orchestration]
/// async fn album(ctx: OrchestrationContext, images: Vec<String>) -> duroxide::Result<usize> {
///     let mut bytes = 0;
///     for resized in join_all(images.iter().map(|image| resize::call(&ctx, image.clone(), 640))).await {
///         bytes += resized?;
///     }
///     Ok(bytes)
/// }
/// ```
pub fn join_all<I>(futures: I) -> JoinAll<I::Item>
where
    I: IntoIterator,
    I::Item: Future,
{
    JoinAll { all: future::join_all(futures) }
}

/// The future of [`join_all`].
#[must_use = "the futures run when this is awaited"]
pub struct JoinAll<F: Future> {
    all: future::JoinAll<F>,
}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().all).poll(context)
    }
}
