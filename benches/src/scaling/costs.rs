//! The figures that the model begins with.
//!
//! Measured on two shared cores with PostgreSQL 15 and `fsync`, with the statements of a prototype whose tables are those of
//! `duroxide-postgres`. Times are nanoseconds of one core.

/// Server: one transaction, whatever its number of entries. From 467 us for an orchestration of one activity that is alone
/// in its two transactions, and 58 us if 128 share them.
pub const TRANSACTION: u64 = 206_000;
/// Server: an entry that creates or ends an instance.
pub const SERVER_END: u64 = 27_000;
/// Server: an entry that records an outcome and schedules the next activity.
pub const SERVER_STEP: u64 = 20_000;
/// Node: the first or the last turn of an instance, with its part of the activity.
pub const NODE_END: u64 = 45_000;
/// Node: each other turn.
pub const NODE_STEP: u64 = 53_000;
/// The bytes of the write-ahead log of an entry that creates or ends an instance.
pub const LOG_END: u64 = 1_200;
/// The bytes of the write-ahead log of each other entry.
pub const LOG_STEP: u64 = 900;
/// The taking over of one instance of a dead node, in the server.
pub const TAKE_OVER: u64 = 39_000;

/// Assumed: the share of the processors of a server that is left under contention.
pub const EFFICIENCY: f64 = 0.6;
/// Assumed: the bytes per second that a server can append to its log.
pub const LOG_BANDWIDTH: u64 = 250_000_000;
/// The largest number of entries of a transaction, as in `duroxide-postgres`.
pub const BATCH: usize = 512;
