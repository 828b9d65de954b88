//! A process that runs one of the tasks of this binary.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Stands before what a child says, to tell it from what the test harness prints.
pub(crate) const SAYS: &str = ">> ";
/// Nothing in these tests takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Another process. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// The child ends in order when this is closed.
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
        let (said, lines) = unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, line)) = line.split_once(SAYS) {
                    // Nobody listens any more when the process was killed.
                    let _ = said.send(line.to_owned());
                }
            }
        });
        Self { input: child.stdin.take(), child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that the child says.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.recv()).await;
        line.expect("the child says something in time").expect("the child has not ended")
    }

    /// Whether the child says that it is done; else it has died.
    pub(crate) async fn is_done(&mut self) -> bool {
        while let Some(line) = timeout(PATIENCE, self.lines.recv()).await.expect("the child does something in time") {
            if line == "done" {
                return true;
            }
        }
        false
    }

    /// Waits until the child says this.
    pub(crate) async fn expect(&mut self, words: &str) {
        while self.line().await != words {}
    }

    /// For who does not listen.
    pub(crate) fn forget_what_it_said(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets the child end in order.
    pub(crate) fn end(self) {
        let status = self.shut_down();
        assert!(status.success(), "{status}");
    }

    /// Tells the child to end, and how it did.
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
