//! Nodes in networks of their own, which are cut off.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::postgres::Cluster;
use support::schema::Schema;

use crate::changes::Changes;
use crate::node_process::{NodeProcess, PROGRAM, create_effects, order};

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
    create_effects(&changes.server).await;
    let on = |host: &str| format!("postgres://postgres@{host}:{}/postgres", cluster.port());
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network.name, PROGRAM]);
    let cut_off = NodeProcess::start(command, &on(&network.address), &schema, LEASE);
    changes.until_within(ENOUGH, "SELECT count(*) = 1 FROM nodes WHERE NOT dead").await;
    let handle = client.start("chaos_order", "order-4", &order()).await.expect("start");
    changes.until_within(ENOUGH, "SELECT count(*) > 0 FROM live WHERE last_event > 4 AND owner IS NOT NULL").await;
    network.cut();
    let survivor = NodeProcess::start(Command::new(PROGRAM), &on("127.0.0.1"), &schema, LEASE);
    let result = tokio::time::timeout(ENOUGH, handle.result()).await.expect("in time");
    assert_eq!(result.expect("completed").as_array().map(Vec::len), Some(4));
    let payments = "SELECT count(*) = 1 FROM public.payments";
    assert!(changes.server.query_one(payments, &[]).await.expect("query").get::<_, bool>(0), "it is paid once");
    network.restore();
    // The node that was cut off is refused, and joins again.
    changes.until_within(ENOUGH, "SELECT count(*) = 2 FROM nodes WHERE NOT dead").await;
    drop((cut_off, survivor));
}
