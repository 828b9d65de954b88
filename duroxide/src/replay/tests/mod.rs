//! The engine as tables: an orchestration and its inputs, and what it decides. No runtime, no storage, no clock; every run
//! is replayed from its history when its test ends.

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
