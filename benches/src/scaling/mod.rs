//! A model of nodes that share database servers: the rate that they reach, and what limits it.
//!
//! Nothing is measured here: [`costs`] holds figures that were measured on one machine, and the model adds queues, round trips
//! and flushes to them. It is deterministic, so its output is on the page.

pub mod costs;
mod model;
mod table;

pub use model::{Outcome, Setup, run};
pub use table::{page, tables};
