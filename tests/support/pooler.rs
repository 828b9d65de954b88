//! A private PgBouncer before a server.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::postgres::{REQUIRED, unprivileged};

/// Runs the pooler until the end of the input, so that it ends with this process, however that ends.
const CONTROL: &str = r#"
"$1" "$2" &
read -r _
kill $!
wait
"#;

/// The first version that prepares the statements of a client in each session.
const KEEPS_STATEMENTS: (u32, u32) = (1, 21);

/// A running pooler, which ends with this value.
#[derive(Debug)]
pub struct Pooler {
    _folder: tempfile::TempDir,
    port: u16,
    script: Child,
}

impl Pooler {
    /// Starts a pooler in a mode, `session` or `transaction`, before the server at this address. It loses prepared
    /// statements in the latter. Returns `None`, after a message, if no PgBouncer is installed.
    ///
    /// # Panics
    /// If it cannot be started, or if it is missing and `DUROXIDE_TEST_POSTGRES_REQUIRED` is set.
    pub fn start(server: SocketAddr, mode: &str) -> Option<Self> {
        Self::start_keeping(server, mode, 0)
    }

    /// Starts a pooler in transaction mode that keeps prepared statements. Returns `None`, after a message, if the installed
    /// PgBouncer cannot.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with_statements(server: SocketAddr) -> Option<Self> {
        if program().is_some_and(|program| version(&program) < KEEPS_STATEMENTS) {
            // The macros would write to the captured output of the test.
            let _ = std::io::stderr().write_all(b"A test of poolers is left out: it needs PgBouncer 1.21 or later.\n");
            return None;
        }
        Self::start_keeping(server, "transaction", 100)
    }

    fn start_keeping(server: SocketAddr, mode: &str, statements: u32) -> Option<Self> {
        let Some(program) = program() else {
            let missing = "A test of poolers is left out: install PgBouncer (Debian: `apt-get install pgbouncer`).\n";
            assert!(std::env::var_os(REQUIRED).is_none(), "{missing}");
            // The macros would write to the captured output of the test.
            let _ = std::io::stderr().write_all(missing.as_bytes());
            return None;
        };
        let folder = tempfile::Builder::new().prefix("duroxide-pooler-").tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let settings = folder.path().join("settings");
        std::fs::write(&settings, configuration(server, port, mode)).expect("write");
        if version(&program) >= KEEPS_STATEMENTS {
            let text = format!("max_prepared_statements = {statements}\n");
            let mut file = OpenOptions::new().append(true).open(&settings).expect("was written");
            file.write_all(text.as_bytes()).expect("write");
        }
        let mut control = Command::new("sh");
        control.args(["-c", CONTROL, "sh"]).arg(program).arg(&settings).current_dir("/").process_group(0);
        control.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some((user, group)) = unprivileged(folder.path()) {
            chown(folder.path(), Some(user), Some(group)).expect("the folder is ours");
            control.uid(user).gid(group);
        }
        let mut script = control.spawn().expect("a shell");
        let log = BufReader::new(script.stderr.take().expect("is piped"));
        let (lines, read) = mpsc::channel();
        // Reads to the end: the pooler would stop at a pipe that is full.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let before: Vec<String> = read.iter().take_while(|line| !line.contains("process up")).collect();
        let mut pooler = Self { _folder: folder, port, script };
        let has_ended = pooler.script.try_wait().expect("is a child").is_some();
        assert!(!has_ended, "PgBouncer does not start:\n{}", before.join("\n"));
        Some(pooler)
    }

    /// Returns the URL of the database `postgres` through the pooler.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

fn program() -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian installs it, which is not always in PATH.
    let folders = std::env::split_paths(&search).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.exists())
}

fn version(program: &Path) -> (u32, u32) {
    let output = Command::new(program).arg("--version").output().expect("it was found");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.contains('.')).unwrap_or_default();
    let mut parts = number.split('.').filter_map(|part| part.parse().ok());
    (parts.next().expect("a version"), parts.next().unwrap_or(0))
}

fn configuration(server: SocketAddr, port: u16, mode: &str) -> String {
    format!(
        "[databases]\npostgres = host={} port={} dbname=postgres user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = {mode}\ndefault_pool_size = 40\n\
         server_reset_query = RESET ALL\nserver_reset_query_always = {}\n",
        server.ip(),
        server.port(),
        // No transaction finds the settings that an earlier one of another client has left.
        u8::from(mode == "transaction")
    )
}
