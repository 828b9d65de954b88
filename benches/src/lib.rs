//! Workloads and their measurement. Each workload answers one question about performance.

pub mod admin;
// The private servers of the tests.
#[path = "../../tests/support/postgres.rs"]
pub mod cluster;
pub mod compare;
pub mod compile;
pub mod ledger;
pub mod measure;
pub mod orchestrations;
pub mod scaling;
pub mod server;
pub mod setup;
pub mod sizes;
pub mod workloads;
