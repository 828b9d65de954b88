//! Lists in a database of a million instances: their times, and their effect on concurrent work.

mod beside;
mod database;
mod parts;
mod queries;

pub use beside::{Beside, beside};
pub use database::build;
pub use queries::{Measured, queries};
