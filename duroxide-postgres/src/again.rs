//! Tasks that run for as long as the provider is open, even after a panic.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

/// The pause after a panic, so that a task which panics at once takes no time from the others.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs a task until it ends. Returns true, after a pause, if it has panicked, perhaps in a waker of the program, and is to
/// begin again.
///
/// The task drops the requests that it works on, which tells their callers, and its connection, which ends an open
/// transaction. Its queue must outlive it.
pub(crate) async fn has_panicked(task: &'static str, run: impl Future<Output = ()>) -> bool {
    let has_panicked = AssertUnwindSafe(run).catch_unwind().await.is_err();
    if has_panicked {
        // The panic hook has reported its message.
        tracing::error!(task, "a task of the provider has panicked, and begins again");
        tokio::time::sleep(PAUSE).await;
    }
    has_panicked
}
