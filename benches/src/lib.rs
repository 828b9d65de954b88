//! The benchmark tools: workloads, each of which answers one question, and the measurement.

pub mod compare;
pub mod ledger;
pub mod measure;
pub mod orchestrations;
pub mod setup;
pub mod workloads;
