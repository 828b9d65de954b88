//! A file of the effects of activities, which survives a kill of the process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

/// Writes one line for each run of an activity. Runs wait until the ledger is open.
#[derive(Clone)]
pub struct Ledger {
    file: Arc<File>,
    opened: Arc<watch::Sender<bool>>,
    lines: Arc<watch::Sender<u64>>,
}

impl Ledger {
    /// Appends to the file in this folder.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(folder.join("ledger"))?;
        Ok(Self { file: Arc::new(file), opened: Arc::default(), lines: Arc::default() })
    }

    /// Lets activities write, now and from now on.
    pub fn open(&self) {
        self.opened.send_replace(true);
    }

    /// Writes a line in one write, so that a killed process leaves all of it or nothing.
    pub async fn note(&self, instance: u64, step: u64) -> io::Result<u64> {
        // This cannot fail: `self` owns the sender.
        let _ = self.opened.subscribe().wait_for(|opened| *opened).await;
        (&*self.file).write_all(format!("{instance} {step}\n").as_bytes())?;
        self.lines.send_modify(|lines| *lines += 1);
        Ok(step)
    }

    /// Waits until this process has written this number of lines.
    pub async fn has(&self, lines: u64) {
        let _ = self.lines.subscribe().wait_for(|written| *written >= lines).await;
    }

    /// Returns how often each step of each instance was run, by all processes.
    pub fn read(folder: &Path) -> io::Result<HashMap<String, u32>> {
        let mut done = HashMap::new();
        for line in std::fs::read_to_string(folder.join("ledger"))?.lines() {
            *done.entry(line.to_owned()).or_insert(0) += 1;
        }
        Ok(done)
    }
}
