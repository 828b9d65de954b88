//! Lists in a database of a million instances: how long they take, and whether they hold up work.

mod beside;
mod database;
mod queries;

pub use beside::{Beside, beside};
pub use database::build;
pub use queries::{Measured, queries};
