//! The instruments: workloads that ask a question each, and what is measured of them.

pub mod admin;
pub mod compare;
pub mod ledger;
pub mod measure;
pub mod orchestrations;
pub mod setup;
pub mod workloads;
