//! The PostgreSQL server of the workloads, and its expenses.

use std::time::Duration;

use duroxide::Error;
use tokio_postgres::{Client, NoTls};

use crate::cluster::Cluster;
use crate::compare::run::TICKS_PER_SECOND;
use crate::measure::Report;
use crate::setup::Level;

/// The schema of the workloads. Each run begins with an empty one.
pub const SCHEMA: &str = "duroxide_load";

/// The server of a run.
pub struct Server {
    url: String,
    /// The private server, which stops when this value is dropped.
    _private: Option<Cluster>,
}

impl Server {
    /// Takes the server at a URL, or starts a private one that flushes each commit as the level demands. Each flush of the
    /// private one takes `flush_delay` longer.
    pub async fn new(url: Option<String>, level: Level, flush_delay: Duration) -> duroxide::Result<Self> {
        let server = match url {
            Some(_) if level != Level::Full || !flush_delay.is_zero() => {
                return Err(Error::new("a server that is given by its URL has its own settings"));
            }
            Some(url) => Self { url, _private: None },
            None => {
                let settings = settings(level, flush_delay);
                let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let private = Cluster::start(&settings).ok_or_else(|| {
                    Error::new("no PostgreSQL server is installed: `apt-get install postgresql`, or give `--database`")
                })?;
                Self { url: private.url(), _private: Some(private) }
            }
        };
        let client = connect(&server.url).await?;
        client.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
        Ok(server)
    }

    /// Returns its URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn settings(level: Level, flush_delay: Duration) -> Vec<(&'static str, String)> {
    let flushes = if level == Level::Full { "on" } else { "off" };
    let mut settings = vec![
        ("fsync", "on".to_owned()),
        ("synchronous_commit", flushes.to_owned()),
        ("shared_buffers", "256MB".to_owned()),
        ("max_wal_size", "4GB".to_owned()),
    ];
    if !flush_delay.is_zero() {
        settings.push(("commit_delay", flush_delay.as_micros().to_string()));
        settings.push(("commit_siblings", "0".to_owned()));
    }
    settings
}

/// Connects to a server without encryption. The connection ends with the client.
pub async fn connect(url: &str) -> duroxide::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The expenses of a server until a moment.
pub struct Expenses {
    /// The processor time of all its processes, in seconds. `None`: it runs on another machine.
    cpu: Option<f64>,
    /// The position in its write-ahead log, in bytes.
    log: f64,
}

impl Expenses {
    /// Returns the expenses of the server until now.
    pub async fn now(client: &Client) -> duroxide::Result<Self> {
        let row = client
            .query_one("SELECT pg_backend_pid(), (pg_current_wal_insert_lsn() - '0/0')::double precision", &[])
            .await?;
        Ok(Self { cpu: processor_seconds(row.try_get::<_, i32>(0)?), log: row.try_get(1)? })
    }

    /// Adds the expenses since then, divided by n, to the report.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub async fn add_since(self, client: &Client, report: &mut Report) -> duroxide::Result<()> {
        let now = Self::now(client).await?;
        let n = report.n.max(1) as f64;
        if let (Some(now), Some(before)) = (now.cpu, self.cpu) {
            report.add("server_cpu_us_per_one", (now - before) * 1e6 / n);
        }
        report.add("wal_bytes_per_one", (now.log - self.log) / n);
        Ok(())
    }
}

/// Returns the processor time of a server, one of whose processes is given, in seconds.
fn processor_seconds(backend: i32) -> Option<f64> {
    let name = std::fs::read_to_string(format!("/proc/{backend}/comm")).ok()?;
    if !name.starts_with("postgres") {
        return None;
    }
    let server = proc_ticks(&backend.to_string())?.parent;
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(|entry| proc_ticks(entry.ok()?.file_name().to_str()?));
    let running: f64 = processes.filter(|process| process.parent == server).map(|process| process.own).sum();
    Some((running + proc_ticks(&server.to_string())?.of_ended_children) / TICKS_PER_SECOND)
}

/// The processor time of a process, in ticks.
struct ProcessTicks {
    /// The process that started it.
    parent: u32,
    /// Its own time.
    own: f64,
    /// The time of the processes that it has started and waited for.
    of_ended_children: f64,
}

/// Returns the processor time of a process; `None` if there is no such process.
fn proc_ticks(process: &str) -> Option<ProcessTicks> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may contain blanks. The third field follows it; the parent is the 4th, utime
    // the 14th.
    let (_, after) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(ProcessTicks {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(14)? + ticks(15)?,
        of_ended_children: ticks(16)? + ticks(17)?,
    })
}
