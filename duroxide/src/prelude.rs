//! The names that almost every program uses, for its imports: `use duroxide::prelude::*;`.
//!
//! The page [Quick start] begins with it.
//!
//! [Quick start]: https://github.com/duroxide/duroxide/blob/main/QUICK_START.md

pub use crate::activity::{Activity, ActivityContext, ActivityFn, BlockingActivityFn, State};
pub use crate::client::{Client, Handle, OutcomeError};
pub use crate::clock::Timestamp;
pub use crate::error::CallError;
pub use crate::orchestration::{
    Event, Orchestration, OrchestrationContext, OrchestrationFn, days, hours, join_all, minutes, race, seconds,
    try_join_all,
};
pub use crate::policy::{ClosePolicy, RetryPolicy};
pub use crate::provider::{IfExists, InstanceStatus};
pub use crate::registry::Registry;
pub use crate::runtime::Runtime;
pub use crate::{join, select};
pub use duroxide_macros::{activity, event, orchestration};
