//! Processes with a wrong clock.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::postgres::REQUIRED;

/// Returns the library of the package `faketime` that gives a process another clock, or `None`, after a message, if it is not
/// installed.
///
/// # Panics
/// If it is missing, and `DUROXIDE_TEST_POSTGRES_REQUIRED` is set.
pub fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let library =
        folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    if library.is_none() {
        let missing = "Wrong clocks are left out: install faketime (Debian: `apt-get install faketime`).\n";
        assert!(std::env::var_os(REQUIRED).is_none(), "{missing}");
        // The macros would write to the captured output of the test.
        let _ = std::io::stderr().write_all(missing.as_bytes());
    }
    library
}

/// Shifts the clock of a process by seconds; its monotonic clock stays.
pub fn shift(command: &mut Command, library: &PathBuf, seconds: i64) {
    command.env("LD_PRELOAD", library).env("FAKETIME", format!("{seconds:+}s"));
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
}
