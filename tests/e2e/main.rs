//! Tests of the library through its public API: one file for each theme.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod activities;
mod audit;
mod bulk;
mod cancellation;
mod children;
mod client;
mod clocks;
mod compose;
mod continue_as_new;
mod crashes;
mod damage;
mod departed;
mod direct_calls;
mod ending;
mod erase;
mod events;
mod faults;
mod golden;
mod headers;
mod inspect;
mod limits;
mod logging;
#[cfg(target_os = "linux")]
mod memory;
mod moments;
mod night;
mod origin;
mod pauses;
mod registry;
mod reset;
mod retention;
mod rollouts;
mod runtime;
mod shedding;
mod sqlite;
mod stopped;
mod store;
mod stored;
mod stuck;
mod suspension;
mod testing;
mod timers;
mod transfer;
mod values;
mod versions;
mod why;
mod within;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use duroxide::testing::{TestRuntime, TestRuntimeBuilder};

/// Returns a builder with all annotated functions of this binary, and the states that they take.
fn builder() -> TestRuntimeBuilder {
    store::chosen(states(TestRuntime::builder()))
}

/// Adds the states that the functions of this binary take.
fn states(builder: TestRuntimeBuilder) -> TestRuntimeBuilder {
    builder
        .state(Arc::new(AtomicU32::new(0)))
        .state(continue_as_new::Gates::default())
        .state(faults::Work::default())
        .state(runtime::Gate::default())
        .state(support::Faults::default())
}

async fn started() -> TestRuntime {
    builder().start().await.unwrap()
}

/// Waits until all that is due has been done. No activity may wait for the test.
async fn settled(test: &TestRuntime) {
    test.sleep(std::time::Duration::ZERO).await;
}
