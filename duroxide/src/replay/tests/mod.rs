//! Tests of the engine, without a runtime, storage or a clock: each gives inputs to an orchestration and compares its
//! decisions. Every run is also replayed from its history when its test ends.

mod activities;
mod cancel;
mod children;
mod combinators;
mod drops;
mod ending;
mod events;
mod inputs;
mod mismatch;
mod misuse;
mod programs;
mod support;
mod timers;
mod values;
mod waits;
