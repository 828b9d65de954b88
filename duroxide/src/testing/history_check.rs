//! Replays recorded histories against the current code.

use crate::error::Suspension;
use crate::history::HistoryEvent;
use crate::id::{ExecutionId, Identity, InstanceId};
use crate::registry::Registry;
pub(super) use crate::transfer::replay;

/// Replays a recorded history against the code in a registry, and checks that the code still makes the recorded
/// decisions. The history may be cut off after any step. Use it in a regression test: record histories once with
/// `Handle::history`, and replay them after each change of the code.
///
/// # Errors
/// The [`Suspension`] of the instance that this code would cause: it shows the recorded decision and that of the code.
///
/// ```standalone_crate
/// use duroxide::prelude::*;
/// use duroxide::testing::{TestRuntime, check_history};
/// use duroxide::Registry;
///
/// #[orchestration]
/// async fn nap(ctx: OrchestrationContext) -> duroxide::Result<()> {
///     ctx.sleep(days(1)).await;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> duroxide::Result<()> {
/// let test = TestRuntime::start().await?;
/// let handle = nap::start(&test.client(), "nap-1").await?;
/// handle.result().await?;
/// check_history(&Registry::discover(), &handle.history().await?).expect("the code has not changed");
/// # Ok(())
/// # }
/// ```
pub fn check_history(registry: &Registry, history: &[HistoryEvent]) -> Result<(), Box<Suspension>> {
    let without_states = |entry: &crate::registry::Entry| entry.kind() == crate::registry::Kind::Orchestration;
    let instance = InstanceId::new("history-check").unwrap_or_else(|e| unreachable!("a valid id: {e}"));
    let execution = ExecutionId { instance, identity: Identity::UNKNOWN, number: 1 };
    let replayed = replay(&registry.lookup_of(without_states), execution, history);
    replayed.map(drop).map_err(|fault| fault.0)
}
