//! Runs one of the tasks of this binary as a child process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// The prefix of the lines that a child sends, to distinguish them from the output of the test harness.
pub(crate) const PREFIX: &str = ">> ";
/// Longer than any step of these tests takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A child process, killed on drop.
pub(crate) struct Process {
    child: Child,
    /// The child shuts down when this is closed.
    input: Option<ChildStdin>,
    lines: UnboundedReceiver<String>,
}

impl Process {
    pub(crate) fn spawn(task: &str, folder: &Path, orders: u32) -> Self {
        Self::spawn_with(task, folder, orders, &[])
    }

    pub(crate) fn spawn_with(task: &str, folder: &Path, orders: u32, variables: &[(&str, String)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::run_task", "--nocapture", "--test-threads=1"])
            .env("TASK", task)
            .env("FOLDER", folder)
            .env("ORDERS", orders.to_string())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, line)) = line.split_once(PREFIX) {
                    // It fails if this `Process` was dropped.
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        Self { input: child.stdin.take(), child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line that the child sends.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(TIMEOUT, self.lines.recv()).await;
        line.expect("the child sends a line in time").expect("the child has not ended")
    }

    /// Returns true if the child reports that it is done, and false if it dies before.
    pub(crate) async fn is_done(&mut self) -> bool {
        while let Some(line) = timeout(TIMEOUT, self.lines.recv()).await.expect("the child sends a line in time") {
            if line == "done" {
                return true;
            }
        }
        false
    }

    /// Waits until the child sends this line.
    pub(crate) async fn expect(&mut self, words: &str) {
        while self.line().await != words {}
    }

    /// Asserts that the child sends no line for this time.
    #[cfg(unix)]
    pub(crate) async fn is_silent_for(&mut self, time: Duration) {
        let line = timeout(time, self.lines.recv()).await;
        assert!(line.is_err(), "{line:?}");
    }

    /// Discards the lines that were not read.
    pub(crate) fn discard_lines(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Stops the child, as a debugger or a paused machine does.
    #[cfg(unix)]
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets a stopped child continue.
    #[cfg(unix)]
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    #[cfg(unix)]
    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Kills the child with `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Shuts down the child, and asserts that it succeeds.
    pub(crate) fn end(self) {
        let status = self.shut_down();
        assert!(status.success(), "{status}");
    }

    /// Shuts down the child, and returns its status.
    pub(crate) fn shut_down(mut self) -> ExitStatus {
        self.input = None;
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
