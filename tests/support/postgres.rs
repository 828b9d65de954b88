//! A private PostgreSQL server for one test process.
//!
//! [`Cluster::start`] finds the programs of an installed server, makes a database cluster in a temporary folder, and runs
//! it as an unprivileged user. A shell script controls the server and reads its commands from a pipe, so that the server
//! stops and its folder is removed when this process ends, however it ends.
//!
//! [`server`] returns the URL of a server that all tests of a process share.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The URL of a server to use instead of a private one.
const URL: &str = "DUROXIDE_TEST_POSTGRES_URL";

/// If this variable is set, a test that finds no server fails instead of being left out.
pub(crate) const REQUIRED: &str = "DUROXIDE_TEST_POSTGRES_REQUIRED";

/// Makes a new cluster, or a copy of a running server that follows it as a standby, and starts the server; then runs each line of its input as a command of `pg_ctl`, and answers with
/// a line. At the end of its input it stops the server and removes the folder.
const CONTROL: &str = r#"
folder=$1 settings=$2 primary=$3
control() { pg_ctl --pgdata "$folder/data" --log "$folder/log" --wait --timeout 60 "$@" >>"$folder/control" 2>&1; }
answer() { if "$@"; then echo ready; else echo failed; fi; }
if [ -n "$primary" ]; then
  pg_basebackup --pgdata "$folder/data" --dbname "$primary" --write-recovery-conf --checkpoint fast --no-sync
else
  initdb --pgdata "$folder/data" --username postgres --auth trust --no-sync --encoding UTF8 --locale C
fi >"$folder/control" 2>&1
printf '%s\n' "$settings" >>"$folder/data/postgresql.conf"
answer control start
while read -r line; do answer control $line; done
control stop --mode immediate
rm -rf "$folder"
"#;

/// A running server with a database `postgres` and a superuser `postgres` without a password.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    control: Mutex<Control>,
}

/// The script, and its pipes.
#[derive(Debug)]
struct Control {
    script: Child,
    /// `None` once it is closed.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// Starts a server with these settings, such as `("fsync", "on")`. Without settings, commits are not flushed.
    ///
    /// # Panics
    /// If the server cannot be started, with its log.
    pub fn start(settings: &[(&str, &str)]) -> Option<Self> {
        Self::start_as(settings, "")
    }

    /// Starts a standby of this server. With the setting `synchronous_standby_names`, commits of this server wait for it.
    ///
    /// # Panics
    /// If the server cannot be started, with its log.
    pub fn standby(&self) -> Self {
        Self::start_as(&[], &self.url()).expect("there are programs")
    }

    /// Makes a standby a server that accepts writes.
    pub fn promote(&self) {
        self.run("promote");
    }

    fn start_as(settings: &[(&str, &str)], primary: &str) -> Option<Self> {
        let programs = programs()?;
        // Another process may take the port before the server does.
        (0..5).find_map(|_| Self::start_in(&programs, settings, primary).ok()).or_else(|| {
            let failed = Self::start_in(&programs, settings, primary);
            Some(failed.unwrap_or_else(|log| panic!("PostgreSQL does not start:\n{log}")))
        })
    }

    fn start_in(programs: &Path, settings: &[(&str, &str)], primary: &str) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("duroxide-postgres-").tempdir().expect("a folder").keep();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs.to_owned()].into_iter().chain(std::env::split_paths(&path)));
        let mut control = Command::new("sh");
        control.args(["-c", CONTROL, "sh"]).arg(&folder).arg(configuration(&folder, port, settings)).arg(primary);
        control.env("PATH", path.expect("PATH has no separators")).current_dir("/").process_group(0);
        control.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some((user, group)) = unprivileged(&folder) {
            chown(&folder, Some(user), Some(group)).expect("the folder is ours");
            control.uid(user).gid(group);
        }
        let mut script = control.spawn().expect("a shell");
        let commands = script.stdin.take();
        let answers = BufReader::new(script.stdout.take().expect("is piped"));
        let cluster = Self { folder, port, control: Mutex::new(Control { script, commands, answers }) };
        if cluster.is_ready() { Ok(cluster) } else { Err(cluster.log()) }
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Returns the port of the server on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server as a crash does: without a checkpoint, and with all connections lost. [`Cluster::resume`] starts
    /// it again.
    pub fn crash(&self) {
        self.run("stop --mode immediate");
    }

    /// Starts the server again.
    pub fn resume(&self) {
        self.run("start");
    }

    /// Stops the server as a crash does, and starts it again.
    pub fn restart(&self) {
        self.run("restart --mode immediate");
    }

    fn run(&self, command: &str) {
        {
            let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
            let commands = control.commands.as_mut().expect("is closed only on drop");
            writeln!(commands, "{command}").expect("the script runs");
        }
        assert!(self.is_ready(), "PostgreSQL does not {command}:\n{}", self.log());
    }

    fn is_ready(&self) -> bool {
        let mut line = String::new();
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.answers.read_line(&mut line).expect("the script runs");
        line.trim() == "ready"
    }

    /// Returns the log of the server.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        format!("{}\n{}", read("control"), read("log"))
    }

    /// Waits until the log of the server is so.
    pub async fn until_log(&self, mut is_so: impl FnMut(&str) -> bool) {
        // From its first line on, so that no line is missed between a check and the next wait.
        let mut lines = self.follow("+1", "");
        while !is_so(&self.log()) {
            lines.recv().await.expect("the server runs");
            while lines.try_recv().is_ok() {}
        }
    }

    /// Tells of each line with this text that the server logs from now on.
    pub fn follow_log(&self, text: &'static str) -> UnboundedReceiver<()> {
        self.follow("0", text)
    }

    /// Tells of each line with this text. `from`: the first line, as `tail` names it.
    fn follow(&self, from: &str, text: &'static str) -> UnboundedReceiver<()> {
        let mut tail = Command::new("tail");
        tail.args(["-n", from, "-f"]).arg(self.folder.join("log")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut tail = tail.spawn().expect("tail is installed");
        let lines = BufReader::new(tail.stdout.take().expect("is piped")).lines().map_while(Result::ok);
        let (sender, found) = unbounded_channel();
        std::thread::spawn(move || {
            lines.filter(|line| line.contains(text)).take_while(|_| sender.send(()).is_ok()).for_each(drop);
            // If this process ends before, `tail` ends with the pipe.
            let _ = tail.kill();
            let _ = tail.wait();
        });
        found
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let control = self.control.get_mut().unwrap_or_else(PoisonError::into_inner);
        control.commands = None;
        let _ = control.script.wait();
    }
}

/// Returns the URL of the server that the tests of this process share, or `None` after a message if there is none.
///
/// # Panics
/// If there is no server, and `DUROXIDE_TEST_POSTGRES_REQUIRED` is set.
pub fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<(String, Option<Cluster>)>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var(URL) {
        Ok(url) => Some((url, None)),
        Err(_) => Cluster::start(&[]).map(|cluster| (cluster.url(), Some(cluster))).or_else(|| {
            let missing = format!(
                "PostgreSQL tests are left out: no server is installed. Install one (Debian: `apt-get install \
                 postgresql`), or set {URL} to the URL of a database.\n"
            );
            assert!(std::env::var_os(REQUIRED).is_none(), "{missing}");
            // The macros would write to the captured output of the test.
            let _ = std::io::stderr().write_all(missing.as_bytes());
            None
        }),
    });
    server.as_ref().map(|(url, _)| url.as_str())
}

/// Returns true if all servers of this process end with it.
pub fn is_private() -> bool {
    std::env::var_os(URL).is_none()
}

/// Returns the folder of the newest installed server programs.
fn programs() -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&search).find(|folder| folder.join("initdb").exists());
    in_path.or_else(|| {
        let installed = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
        let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = installed.map(|entry| entry.path()).max_by_key(version)?;
        Some(newest.join("bin")).filter(|programs| programs.join("initdb").exists())
    })
}

fn configuration(folder: &Path, port: u16, settings: &[(&str, &str)]) -> String {
    let own = [
        ("port", port.to_string()),
        ("unix_socket_directories", format!("'{}'", folder.display())),
        ("listen_addresses", "'127.0.0.1'".to_owned()),
        ("max_connections", "300".to_owned()),
        ("fsync", "off".to_owned()),
    ];
    let own = own.into_iter().map(|(name, value)| format!("{name} = {value}\n"));
    // The last value of a setting counts.
    own.chain(settings.iter().map(|(name, value)| format!("{name} = {value}\n"))).collect()
}

/// Lets the user that runs the server read the files of a folder.
///
/// # Panics
/// If the folder is not ours.
pub fn make_readable(folder: &Path) {
    if let Some((user, group)) = unprivileged(folder) {
        chown(folder, Some(user), Some(group)).expect("the folder is ours");
    }
}

/// Returns the user and the group that run the server if this process is root, which PostgreSQL refuses.
pub fn unprivileged(ours: &Path) -> Option<(u32, u32)> {
    let is_root = std::fs::metadata(ours).is_ok_and(|folder| folder.uid() == 0);
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    is_root.then(|| ids("postgres").or_else(|| ids("nobody")).expect("there is an unprivileged user"))
}
