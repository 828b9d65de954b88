//! Workloads, each of which answers one question about performance, and their measurement.

pub mod admin;
pub mod compare;
pub mod ledger;
pub mod measure;
pub mod orchestrations;
pub mod setup;
pub mod workloads;
