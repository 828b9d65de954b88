//! The futures of an orchestration: its durable calls, timers and waits, and functions that wait for several of them.
//!
//! The methods of [`OrchestrationContext`](crate::OrchestrationContext) return these types. A program needs their names to
//! keep futures in a struct, or to return them from a function of its own. The functions are also in the
//! [prelude](crate::prelude). The page [Orchestration guide] shows how calls are joined, raced and cancelled.
//!
//! [Orchestration guide]: https://github.com/duroxide/duroxide/blob/main/docs/ORCHESTRATION-GUIDE.md

pub use crate::orchestration::{
    ActivityCall, Cancelled, ChildCall, ContinueAsNew, DetachedStart, EventWait, JoinAll, Race, Sleep, TryJoinAll,
    join_all, race, try_join_all,
};
