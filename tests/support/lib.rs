//! Fixtures that the test binaries share.

#![allow(missing_docs, reason = "used by tests only")]

pub mod clocks;
pub mod edits;
mod faulty;
pub mod outcomes;
pub mod pooler;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod recorder;
pub mod schema;
pub mod stored;
mod writes;

pub use faulty::{Events, Fault, Faults, FaultyLayer, FaultyProvider, Method, faulty, without_admin};
pub use writes::{
    SignallingLayer, SignallingProvider, signalling, until_events, until_execution, until_started, until_stored,
};
