//! The cost of requests, by the number of instances in a PostgreSQL database.

mod database;
mod requests;

pub use database::build;
pub use requests::{Measured, measure};
