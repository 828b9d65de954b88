//! Durable execution for Rust.

mod clock;
mod error;
mod history;
mod id;
mod message;
mod payload;
mod policy;
pub mod provider;

pub use clock::{Clock, SystemClock, Timestamp};
pub use error::*;
pub use history::*;
pub use id::*;
pub use message::{Lane, Message};
pub use payload::{Payload, PayloadError};
pub use policy::{ActivityOptions, RetryPolicy};
