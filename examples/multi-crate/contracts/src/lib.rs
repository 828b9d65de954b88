//! The contracts between the other crates: functions without a body. A crate that depends on this one can call and
//! start them by type, without the code and the dependencies of the crates that do the work. Those may even run in
//! another program.

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

/// An order of a customer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The number of the order.
    pub number: u32,
    /// The ordered item.
    pub item: String,
    /// The price.
    pub cents: u64,
}

/// The customer has agreed to the conditions.
#[event]
pub struct Agreed {
    /// The time, in the customer's words.
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
