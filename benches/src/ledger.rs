//! A ledger of the effects of activities, in a file that survives a kill of the process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

/// Writes one line for each run of an activity, once the gate is open.
#[derive(Clone)]
pub struct Ledger {
    file: Arc<File>,
    opened: Arc<watch::Sender<bool>>,
    lines: Arc<watch::Sender<u64>>,
}

impl Ledger {
    /// Opens the file in this folder, and appends to it.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(folder.join("ledger"))?;
        Ok(Self { file: Arc::new(file), opened: Arc::default(), lines: Arc::default() })
    }

    /// Opens the gate: activities that wait to write continue.
    pub fn open(&self) {
        self.opened.send_replace(true);
    }

    /// Writes a line in one write, so that a killed process leaves all of it or nothing.
    pub async fn note(&self, instance: u64, step: u64) -> io::Result<u64> {
        // Cannot fail: `self` holds the sender.
        let _ = self.opened.subscribe().wait_for(|opened| *opened).await;
        (&*self.file).write_all(format!("{instance} {step}\n").as_bytes())?;
        self.lines.send_modify(|lines| *lines += 1);
        Ok(step)
    }

    /// Waits until this process has written n lines.
    pub async fn has(&self, lines: u64) {
        let _ = self.lines.subscribe().wait_for(|written| *written >= lines).await;
    }

    /// Returns how often all processes together have done each step of each instance.
    pub fn read(folder: &Path) -> io::Result<HashMap<String, u32>> {
        let mut done = HashMap::new();
        for line in std::fs::read_to_string(folder.join("ledger"))?.lines() {
            *done.entry(line.to_owned()).or_insert(0) += 1;
        }
        Ok(done)
    }
}
