//! Mounts small or read-only file systems, on machines that allow it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system, unmounted on drop.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts an empty file system of this size. If the machine refuses, prints so and returns `None`.
    pub(crate) fn small(at: &Path, kib: u32) -> Option<Self> {
        Self::new(&["-t", "tmpfs", "-o", &format!("size={kib}k"), "duroxide-test"], at)
    }

    /// Makes a folder read-only, also for the superuser. If the machine refuses, prints so and returns `None`.
    pub(crate) fn read_only(at: &Path) -> Option<Self> {
        Self::new(&["--bind", "-o", "ro", at.to_str()?], at)
    }

    fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(at).output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(at.to_owned()));
        }
        // Not `println!`, which the harness captures, and hides if the test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this machine does not let a test mount a file system");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
