//! Combinators for durable futures, and constructors for common durations.

use std::future::Future;
use std::time::Duration;

/// Waits for the first of several branches. Branches are polled in source order, so that the winner is the same on
/// replay. The futures of the other branches are dropped, which cancels their calls.
///
/// The grammar is that of `tokio::select!`: `pattern = future => expression`, optionally with `, if condition`, and a
/// last `else => expression`.
///
/// ```
/// use duroxide::prelude::*;
/// # #[event] struct Approval { by: String }
/// async fn approved(ctx: &OrchestrationContext) -> bool {
///     select! {
///         _approval = ctx.event::<Approval>() => true,
///         _ = ctx.sleep(days(3)) => false,
///     }
/// }
/// ```
#[macro_export]
macro_rules! select {
    (biased; $($branches:tt)*) => { $crate::__private::tokio::select! { biased; $($branches)* } };
    ($($branches:tt)*) => { $crate::__private::tokio::select! { biased; $($branches)* } };
}

/// Waits for all of several futures, which run concurrently, and returns a tuple of their outputs.
///
/// ```
/// use duroxide::prelude::*;
/// async fn two(ctx: &OrchestrationContext) {
///     let ((), ()) = join!(ctx.sleep(days(1)), ctx.sleep(hours(2)));
/// }
/// ```
#[macro_export]
macro_rules! join {
    (biased; $($futures:tt)*) => { $crate::__private::tokio::join! { biased; $($futures)* } };
    ($($futures:tt)*) => { $crate::__private::tokio::join! { biased; $($futures)* } };
}

/// Waits for all futures of a collection, which run concurrently, and returns their outputs in the order of the
/// collection. The cost of n futures is O(n).
pub async fn join_all<I>(futures: I) -> Vec<<I::Item as Future>::Output>
where
    I: IntoIterator,
    I::Item: Future,
{
    futures_util::future::join_all(futures).await
}

/// Waits for the first future of a collection, and returns its position and its output. The others are dropped, which
/// cancels their calls. An empty collection waits forever, which the runtime reports.
pub async fn race<I>(futures: I) -> (usize, <I::Item as Future>::Output)
where
    I: IntoIterator,
    I::Item: Future + Unpin,
{
    let futures: Vec<_> = futures.into_iter().collect();
    if futures.is_empty() {
        return std::future::pending().await;
    }
    let (output, position, _others) = futures_util::future::select_all(futures).await;
    (position, output)
}

/// Waits for all futures of a collection, and returns their `Ok` values in the order of the collection, or the first
/// `Err`. On an `Err` the other futures are dropped, which cancels their calls.
///
/// # Errors
/// The first one that a future returns.
pub async fn try_join_all<I, T, E>(futures: I) -> Result<Vec<T>, E>
where
    I: IntoIterator,
    I::Item: Future<Output = Result<T, E>>,
{
    futures_util::future::try_join_all(futures).await
}

/// Returns a duration in seconds.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns a duration in minutes. Saturates.
pub const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}

/// Returns a duration in hours. Saturates.
pub const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(60 * 60))
}

/// Returns a duration in days of 24 hours. Saturates.
pub const fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(24 * 60 * 60))
}
