//! Nodes in networks of their own, which are cut off.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::postgres::Cluster;
use support::schema::Schema;

use crate::changes::Changes;

/// The lease of a node that is cut off. The cut leaves its session on the server, so the lease decides.
const LEASE: Duration = Duration::from_secs(3);
/// Enough for a take-over on a busy machine.
const ENOUGH: Duration = Duration::from_secs(120);

/// A network of its own on this machine, joined to the one of this process by a pair of devices.
struct Network {
    name: String,
    device: String,
    /// Of this process, as the network sees it.
    address: String,
}

impl Network {
    /// Makes a network. Returns `None`, after a message, if this machine does not allow it.
    fn make() -> Option<Self> {
        let process = std::process::id();
        let prefix = format!("10.213.{}", process % 250);
        let (name, device) = (format!("duroxide-{process}"), format!("dx{process}"));
        let network = Self { address: format!("{prefix}.1"), name, device };
        let (inner, device, name) = (format!("dy{process}"), network.device.as_str(), network.name.as_str());
        let (ours, theirs) = (format!("{prefix}.1/30"), format!("{prefix}.2/30"));
        let is_made = ip(&["netns", "add", name])
            && ip(&["link", "add", device, "type", "veth", "peer", "name", &inner, "netns", name])
            && ip(&["addr", "add", &ours, "dev", device])
            && ip(&["link", "set", device, "up"])
            && ip(&["-n", name, "addr", "add", &theirs, "dev", &inner])
            && ip(&["-n", name, "link", "set", &inner, "up"]);
        if !is_made {
            let left_out =
                "A test of networks is left out: this machine allows no network namespaces (`ip netns add`).\n";
            // The macros would write to the captured output of the test.
            let _ = std::io::stderr().write_all(left_out.as_bytes());
            return None;
        }
        Some(network)
    }

    fn cut(&self) {
        assert!(ip(&["link", "set", &self.device, "down"]));
    }

    fn restore(&self) {
        assert!(ip(&["link", "set", &self.device, "up"]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The device ends with its peer.
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip(words: &[&str]) -> bool {
    let status = Command::new("ip").args(words).stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A process with a node, killed on drop.
struct Process(Child);

impl Process {
    fn start(mut command: Command, cluster: &Cluster, schema: &Schema, host: &str) -> Self {
        let url = format!("postgres://postgres@{host}:{}/postgres", cluster.port());
        let variables = [
            ("CHAOS_SCHEMA", schema.name().to_owned()),
            ("CHAOS_URL", url.clone()),
            ("CHAOS_EFFECTS_URL", url),
            ("CHAOS_LEASE", LEASE.as_millis().to_string()),
        ];
        command.envs(variables).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(changes: &mut Changes, query: &str) {
    if tokio::time::timeout(ENOUGH, changes.until(query)).await.is_err() {
        let nodes = "SELECT coalesce(json_agg(n), '[]')::text FROM nodes n";
        let nodes: String = changes.server.query_one(nodes, &[]).await.expect("query").get(0);
        panic!("{query}: {nodes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_in_a_network_that_is_cut_off_is_taken_over() {
    if support::postgres::server().is_none() {
        return;
    }
    let Some(network) = Network::make() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules");
    std::fs::write(&rules, "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all 10.213.0.0/16 trust\n")
        .expect("write");
    // The server has a user of its own.
    support::postgres::make_readable(folder.path());
    let (rules, addresses) = (format!("'{}'", rules.display()), format!("'127.0.0.1,{}'", network.address));
    let settings = [("hba_file", rules.as_str()), ("listen_addresses", addresses.as_str())];
    let Some(cluster) = Cluster::start(&settings) else { return };
    let schema = Schema::new(&cluster.url(), "networks");
    let client = duroxide::Client::new(schema.connect());
    let followed = ["INSERT OR UPDATE OR DELETE ON nodes", "INSERT OR UPDATE ON live"];
    let mut changes = Changes::follow(&cluster.url(), &schema, &followed).await;
    let effects =
        "CREATE TABLE public.effects (key text PRIMARY KEY, step text NOT NULL, runs integer NOT NULL DEFAULT 1);
        CREATE TABLE public.payments (key text NOT NULL, step text NOT NULL)";
    changes.server.batch_execute(effects).await.expect("create");
    let program = env!("CARGO_BIN_EXE_chaos");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network.name, program]);
    let cut_off = Process::start(command, &cluster, &schema, &network.address);
    until(&mut changes, "SELECT count(*) = 1 FROM nodes WHERE NOT dead").await;
    // It sleeps for seconds after its first activities.
    let order = serde_json::json!({ "number": 4, "parcels": 1, "steps": [] });
    let handle = client.start("chaos_order", "order-4", &order).await.expect("start");
    until(&mut changes, "SELECT count(*) > 0 FROM live WHERE last_event > 4 AND owner IS NOT NULL").await;
    network.cut();
    let survivor = Process::start(Command::new(program), &cluster, &schema, "127.0.0.1");
    let result = tokio::time::timeout(ENOUGH, handle.result()).await.expect("in time");
    assert_eq!(result.expect("completed").as_array().map(Vec::len), Some(4));
    let payments = "SELECT count(*) = 1 FROM public.payments";
    assert!(changes.server.query_one(payments, &[]).await.expect("query").get::<_, bool>(0), "it is paid once");
    network.restore();
    // The node that was cut off is refused, and joins again.
    until(&mut changes, "SELECT count(*) = 2 FROM nodes WHERE NOT dead").await;
    drop((cut_off, survivor));
}
