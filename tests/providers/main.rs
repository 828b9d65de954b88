//! Tests of the SQLite provider beyond the contract: processes that share a file, die or race, full disks, damage.

mod child;
mod cluster;
mod crash_points;
mod faults;
mod idle;
mod log_size;
mod processes;
mod removals;
mod schema;
mod script;
mod starts;
mod store;
mod tags;
mod torn_log;
