//! Kills processes: this binary runs itself again as child processes, and kills them with `kill -9`.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod check;
mod child;
mod disk;
mod kills;
mod ledger;
mod moments;
mod mount;
mod orders;
mod process;
mod restart;
mod several;
mod soak;
#[cfg(unix)]
mod stopped;
