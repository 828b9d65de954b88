//! The comparison: the plan of the runs, their figures, the tables.

pub mod entry;
pub mod figures;
pub mod plan;
pub mod run;
pub mod tables;
pub mod targets;
