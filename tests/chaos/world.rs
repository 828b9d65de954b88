//! The server, the nodes, and the proxies between them.

use std::collections::HashSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duroxide::Client;
use duroxide_postgres::{PostgresOptions, PostgresProvider};
use support::postgres::Cluster;
use support::proxy::Proxy;

use crate::effects::Effects;
use crate::{Options, node};

/// The schema of the provider.
const SCHEMA: &str = "chaos";

/// The time that a client repeats a request, which is longer than any outage.
const PATIENCE: Duration = Duration::from_secs(600);

/// The process ids of the nodes that were killed, stopped or cut off: others may take their work over.
pub(crate) type Harmed = Arc<Mutex<HashSet<u32>>>;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) nodes: Vec<Node>,
    /// The proxy of some clients.
    pub(crate) proxy: Proxy,
    clients: Vec<Client>,
    folder: PathBuf,
    harmed: Harmed,
}

impl World {
    /// Returns `None` if there is no server program.
    pub(crate) async fn start(options: &Options) -> Option<Self> {
        let cluster = Cluster::start(&[("fsync", "on")])?;
        let folder = tempfile::Builder::new().prefix("duroxide-chaos-").tempdir().unwrap().keep();
        Effects::new(&cluster.url()).create().await;
        let address = server(&cluster);
        let proxy = Proxy::to(address);
        let mut clients = Vec::new();
        for url in [cluster.url(), url(proxy.address())] {
            let provider = PostgresProvider::connect_with(PostgresOptions::new(url).schema(SCHEMA)).await.unwrap();
            clients.push(Client::new(provider).with_retry_time(PATIENCE));
        }
        let harmed = Harmed::default();
        // Tells if it is missing.
        let _ = support::clocks::library();
        let node = |n| Node::start(n, Proxy::to(address), &cluster, options.lease, &folder, harmed.clone());
        let nodes = (0..options.nodes).map(node).collect();
        Some(Self { nodes, cluster, proxy, clients, folder, harmed })
    }

    pub(crate) fn direct_url(&self) -> String {
        self.cluster.url()
    }

    pub(crate) fn schema(&self) -> &'static str {
        SCHEMA
    }

    pub(crate) fn clients(&self) -> Vec<Client> {
        self.clients.clone()
    }

    pub(crate) fn harmed(&self) -> Harmed {
        self.harmed.clone()
    }

    /// Shuts down all nodes.
    pub(crate) fn end_nodes(&self) {
        self.nodes.iter().for_each(|node| node.with(Running::end));
    }

    /// Keeps the folder with the logs of the nodes, and returns it.
    pub(crate) fn keep(&self) -> &Path {
        &self.folder
    }

    /// Removes the logs of the nodes.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn server(cluster: &Cluster) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], cluster.port()))
}

fn url(address: SocketAddr) -> String {
    format!("postgres://postgres@{address}/postgres")
}

/// A node, and its proxy. Its process is replaced by another one whenever it is killed.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) proxy: Proxy,
    /// A std mutex: held for a moment, and while a process is started.
    running: Mutex<Running>,
    harmed: Harmed,
    variables: Vec<(&'static str, String)>,
    folder: PathBuf,
}

/// A process, killed on drop.
pub(crate) struct Running(Child);

impl Node {
    fn start(number: usize, proxy: Proxy, cluster: &Cluster, lease: Duration, folder: &Path, harmed: Harmed) -> Self {
        let variables = vec![
            (node::SCHEMA, SCHEMA.to_owned()),
            (node::URL, url(proxy.address())),
            (node::EFFECTS, cluster.url()),
            (node::LEASE, lease.as_millis().to_string()),
        ];
        let running = Mutex::new(Running::start(number, &variables, folder, 0));
        Self { number, proxy, running, harmed, variables, folder: folder.to_owned() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Running) -> T) -> T {
        work(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.with(|running| running.0.id())
    }

    /// Notes that others may take over the work of the process that runs now.
    pub(crate) fn harm(&self) {
        self.harmed.lock().unwrap_or_else(PoisonError::into_inner).insert(self.id());
    }

    /// Kills the process, and starts another one, whose clock is wrong by this time.
    pub(crate) fn kill(&self, skew: i64) {
        self.harm();
        self.with(|running| {
            running.0.kill().unwrap();
            running.0.wait().unwrap();
            *running = Running::start(self.number, &self.variables, &self.folder, skew);
        });
    }

    /// Shuts down the process, and starts another one at once.
    pub(crate) fn replace(&self, skew: i64) {
        // It may need longer than its lease to leave.
        self.harm();
        // A process that is stopped would not end.
        self.resume();
        self.with(|running| {
            let next = Running::start(self.number, &self.variables, &self.folder, skew);
            let mut last = std::mem::replace(running, next);
            std::thread::spawn(move || last.end());
        });
    }

    /// Stops the process as a paused machine does.
    pub(crate) fn stop(&self) {
        self.harm();
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.id().to_string()]).status().unwrap().success());
    }
}

impl Running {
    fn start(number: usize, variables: &[(&'static str, String)], folder: &Path, skew: i64) -> Self {
        let log = File::options().create(true).append(true).open(folder.join(format!("node-{number}.log"))).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        if skew != 0
            && let Some(library) = support::clocks::library()
        {
            support::clocks::shift(&mut command, &library, skew);
        }
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Shuts the process down.
    fn end(&mut self) {
        self.0.stdin = None;
        let status = self.0.wait().unwrap();
        assert!(status.success(), "a node ends with {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
