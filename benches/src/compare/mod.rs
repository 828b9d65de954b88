//! Comparing: what is run, what came out, and how it is shown.

pub mod entry;
pub mod figures;
pub mod plan;
pub mod run;
pub mod tables;
pub mod targets;
