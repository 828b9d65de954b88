//! Combinators for durable futures, and durations that one writes often.

use std::future::Future;
use std::time::Duration;

/// Waits for the first of several branches; polls them in the order in which they stand, so that the winner is the same on
/// replay. The futures of the others are dropped, which cancels what they scheduled.
///
/// Grammar as `tokio::select!`: `pattern = future => expression`, optionally `, if condition`, and `else => expression`.
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

/// Waits for all of several futures and returns a tuple of what they return. They run side by side.
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

/// Waits for all futures of a collection and returns what they return, in the order of the collection. They run side by
/// side; n of them cost O(n).
pub async fn join_all<I>(futures: I) -> Vec<<I::Item as Future>::Output>
where
    I: IntoIterator,
    I::Item: Future,
{
    futures_util::future::join_all(futures).await
}

/// Waits for the first of a collection: its position and what it returns. The others are dropped, which cancels what they
/// scheduled. An empty collection waits forever, which the runtime reports.
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

/// Waits for all futures of a collection and returns what they return in `Ok`, in the order of the collection, or the first
/// `Err`: then the others are dropped, which cancels what they scheduled.
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

/// A duration of so many seconds.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A duration of so many minutes. Saturates.
pub const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}

/// A duration of so many hours. Saturates.
pub const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(60 * 60))
}

/// A duration of so many days of 24 hours. Saturates.
pub const fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(24 * 60 * 60))
}
