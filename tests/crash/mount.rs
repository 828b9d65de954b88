//! A small file system of its own, where this machine allows that.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Unmounted when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// An empty file system of so many KiB. `None`, and a word to whoever runs the tests, where that is refused.
    pub(crate) fn small(at: &Path, kib: u32) -> Option<Self> {
        Self::new(&["-t", "tmpfs", "-o", &format!("size={kib}k"), "duroxide-test"], at)
    }

    /// Makes a folder one that can only be read, also for the superuser. `None` as above.
    pub(crate) fn read_only(at: &Path) -> Option<Self> {
        Self::new(&["--bind", "-o", "ro", at.to_str()?], at)
    }

    fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(at).output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(at.to_owned()));
        }
        // Not `println!`, which nobody sees of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this machine does not let a test mount a file system");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
