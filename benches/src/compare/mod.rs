//! The comparison with other engines: the plan of the runs, their figures, the targets, and the printed tables.

pub mod entry;
pub mod figures;
pub mod plan;
pub mod run;
pub mod tables;
pub mod targets;
