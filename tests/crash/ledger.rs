//! What has happened, written down outside of the database under test: one line each, on disk before anybody goes on.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duroxide::Client;
use duroxide::sqlite::SqliteProvider;

/// The folder that the processes of one test share.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(self.path())
    }

    /// A client of the database without a runtime.
    pub(crate) fn client(&self) -> Client {
        Client::new(SqliteProvider::open(self.database()).unwrap())
    }

    /// All lines so far, split into words.
    pub(crate) fn ledger(&self) -> Vec<Vec<String>> {
        read(self.path())
    }
}

pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("orders.db")
}

/// What a line ends with that was written as a whole.
const END: &str = " .";

fn file(folder: &Path) -> PathBuf {
    folder.join("ledger")
}

pub(crate) fn read(folder: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file(folder)).unwrap_or_default();
    let whole = text.lines().filter_map(|line| line.strip_suffix(END));
    whole.map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// Writes lines.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<File>);

impl Ledger {
    pub(crate) fn open(folder: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().append(true).create(true).open(file(folder)).unwrap()))
    }

    /// One write, then one flush. A process that is killed at a page boundary leaves a part of the line: without its end,
    /// it counts as not written, and the next one does not go on behind it.
    pub(crate) fn note(&self, line: &str) {
        (&*self.0).write_all(format!("\n{line}{END}").as_bytes()).unwrap();
        self.0.sync_data().unwrap();
    }
}
