//! Fixtures that the test binaries share.

#![allow(missing_docs, reason = "read only beside the tests")]

pub mod edits;
mod faulty;
pub mod stored;

pub use faulty::{Events, Fault, Faults, FaultyProvider, Method};
