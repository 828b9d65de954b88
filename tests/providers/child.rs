//! Runs this test binary again as another process, which has one task.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use duroxide::provider::Provider;
use duroxide::sqlite::SqliteProvider;

use crate::store::{node, start, submit};

/// Another process. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a process that runs `task` on the database after the call of [`Process::go`].
    pub(crate) fn spawn(task: &str, database: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child::run_task", "--nocapture", "--test-threads=1"])
            .env("TASK", task)
            .env("DATABASE", database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let input = child.stdin.take().expect("stdin");
        let output = BufReader::new(child.stdout.take().expect("stdout"));
        Self { child, input, output }
    }

    pub(crate) fn go(&mut self) {
        self.input.write_all(b"g").expect("the child reads its input");
    }

    /// Waits until the child has printed a word.
    pub(crate) fn expect(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(self.output.read_line(&mut line).expect("read") > 0, "the child ended without printing {word}");
        }
    }

    /// Kills the child with `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_go() {
    std::io::stdin().read_exact(&mut [0]).expect("a byte of the parent");
}

/// The entry point of child processes; without `TASK` it does nothing.
#[tokio::test]
async fn run_task() {
    let Ok(task) = std::env::var("TASK") else { return };
    let database = std::env::var("DATABASE").expect("DATABASE");
    wait_for_go();
    if task == "fail to start" {
        crate::starts::fail(Path::new(&database)).await;
        return println!("done");
    }
    let provider = SqliteProvider::open(&database).expect("open");
    match task.as_str() {
        "open" => println!("done"),
        "submit" => {
            submit(&provider, start("from-child", None)).await.expect("start");
            println!("done");
        }
        "own" => {
            let lease = provider.join(&node()).await.expect("join");
            for n in 0..100 {
                submit(&provider, start(&format!("owned-{n}"), Some(lease))).await.expect("start");
            }
            println!("done");
        }
        "write" => {
            for n in 0.. {
                submit(&provider, start(&format!("written-{n}"), None)).await.expect("start");
                println!("acknowledged {n} done");
            }
        }
        other => panic!("unknown task {other}"),
    }
    wait_for_go();
}
