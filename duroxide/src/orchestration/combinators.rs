//! Combinators for a fixed number of futures, as macros.

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
    // The guard that `#[orchestration]` puts before the branches.
    (_ = ::core::compile_error!($($guard:tt)*) => {}, $($branches:tt)*) => { $crate::select! { $($branches)* } };
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
    // The guard that `#[orchestration]` puts before the futures.
    (::core::compile_error!($($guard:tt)*), $($futures:tt)*) => { $crate::join! { $($futures)* } };
    // Mostly a collection of futures, by mistake: an error in place of the many of tokio's macro.
    ($only:expr $(,)?) => { ($only.await,) };
    (biased; $($futures:tt)*) => { $crate::__private::tokio::join! { biased; $($futures)* } };
    ($($futures:tt)*) => { $crate::__private::tokio::join! { biased; $($futures)* } };
}
