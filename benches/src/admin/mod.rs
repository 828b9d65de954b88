//! What people look at, in a database of a million instances: how long it takes, and that it holds up no work.

mod beside;
mod database;
mod queries;

pub use beside::{Beside, beside};
pub use database::build;
pub use queries::{Measured, queries};
