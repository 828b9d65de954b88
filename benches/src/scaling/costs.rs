//! The figures that the model begins with. Times are nanoseconds of one core.
//!
//! Measured with `duroxide-postgres` on two shared cores, with PostgreSQL 15 and `fsync`: 480 us of the server for a step that
//! is alone in its transaction, and 106 us for an orchestration of one activity, with 256 under way. The parts are derived
//! from these two, for transactions of 64 entries, and with the ratio of a prototype's statements for a step and an end.

/// Server: one transaction, for any number of entries.
pub const TRANSACTION: u64 = 446_000;
/// Server: an entry that creates or ends an instance.
pub const SERVER_END: u64 = 46_000;
/// Server: an entry that records an outcome and schedules the next activity.
pub const SERVER_STEP: u64 = 34_000;
/// Server: the taking over of one instance of a dead node; measured with the statements of the prototype.
pub const TAKE_OVER: u64 = 39_000;
/// Node: the first or the last turn of an instance, with its part of the activity; derived from runs in memory.
pub const NODE_END: u64 = 45_000;
/// Node: each other turn.
pub const NODE_STEP: u64 = 53_000;
/// The bytes of the write-ahead log of an entry that creates or ends an instance; measured with the prototype.
pub const LOG_END: u64 = 1_200;
/// The bytes of the write-ahead log of each other entry.
pub const LOG_STEP: u64 = 900;

/// Assumed: the share of the processors of a server that is left under contention.
pub const EFFICIENCY: f64 = 0.6;
/// Assumed: the bytes per second that a server can append to its log.
pub const LOG_BANDWIDTH: u64 = 250_000_000;
/// The largest number of entries of a transaction, as in `duroxide-postgres`.
pub const BATCH: usize = 512;
