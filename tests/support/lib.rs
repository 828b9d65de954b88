//! Fixtures that the test binaries share.

#![allow(missing_docs, reason = "read only beside the tests")]

mod faulty;

pub use faulty::{Events, Fault, Faults, FaultyProvider, Method};
