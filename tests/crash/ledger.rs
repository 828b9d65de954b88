//! A log of effects and acknowledgements outside of the database under test. Each line is on disk before `note` returns.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duroxide::Client;
use duroxide::sqlite::SqliteProvider;
use tokio::sync::watch;

/// The folder that the processes of one test share.
pub(crate) struct SharedFolder(tempfile::TempDir);

impl SharedFolder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(disk(folder.path())).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the folder of the database, which contains nothing else.
    pub(crate) fn disk(&self) -> PathBuf {
        disk(self.path())
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(self.path())
    }

    /// Returns a client of the database, without a runtime.
    pub(crate) fn client(&self) -> Client {
        Client::new(SqliteProvider::open(self.database()).unwrap())
    }

    /// Returns all lines so far, split into words.
    pub(crate) fn ledger(&self) -> Vec<Vec<String>> {
        read(self.path())
    }
}

fn disk(folder: &Path) -> PathBuf {
    folder.join("disk")
}

pub(crate) fn database(folder: &Path) -> PathBuf {
    disk(folder).join("orders.db")
}

/// The end of each line, by which partly written lines are recognized.
const END: &str = " .";

fn file(folder: &Path) -> PathBuf {
    folder.join("ledger")
}

pub(crate) fn read(folder: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file(folder)).unwrap_or_default();
    let whole = text.lines().filter_map(|line| line.strip_suffix(END));
    whole.map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// Writes lines to the ledger.
#[derive(Clone)]
pub(crate) struct Ledger {
    file: Arc<File>,
    /// The number of lines that were written here.
    lines: watch::Sender<u32>,
}

impl Ledger {
    pub(crate) fn open(folder: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(file(folder)).unwrap();
        Self { file: Arc::new(file), lines: watch::Sender::new(0) }
    }

    /// Watches the number of lines that were written by this value and its clones.
    pub(crate) fn lines(&self) -> watch::Receiver<u32> {
        self.lines.subscribe()
    }

    /// Appends a line by one write and one flush. A process that is killed at a page boundary leaves a part of the line.
    /// Without its end that part is ignored, and the next line begins with a line break, so that it is not appended to it.
    pub(crate) fn note(&self, line: &str) {
        (&*self.file).write_all(format!("\n{line}{END}").as_bytes()).unwrap();
        self.file.sync_data().unwrap();
        self.lines.send_modify(|lines| *lines += 1);
    }
}
