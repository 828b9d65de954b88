//! What the other crates agree on. Nothing here has a body: whoever depends on this crate can call and start by type, and
//! needs neither the code nor the dependencies of the crates that do the work. Those may even run in another program.

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

/// What somebody wants to have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Which order it is.
    pub number: u32,
    /// What is wanted.
    pub item: String,
    /// What it costs.
    pub cents: u64,
}

/// Says that the customer has agreed to the conditions.
#[event]
pub struct Agreed {
    /// When, in the customer's words.
    pub when: String,
}

/// Charges and ships. The crate `billing` has the code.
#[orchestration]
pub async fn checkout(ctx: OrchestrationContext, order: Order) -> duroxide::Result<String>;

/// Packs and sends. The crate `shipping` has the code.
#[orchestration]
pub async fn ship(ctx: OrchestrationContext, order: Order) -> duroxide::Result<String>;

/// Prints a label. The crate `shipping` has the code.
#[activity(timeout = "10s")]
pub async fn print_label(number: u32, text: String) -> duroxide::Result<String>;
