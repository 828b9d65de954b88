//! Workloads and their measurement. Each workload answers one question about performance.

pub mod admin;
pub mod compare;
pub mod compile;
pub mod ledger;
pub mod measure;
pub mod orchestrations;
pub mod scaling;
pub mod setup;
pub mod workloads;
