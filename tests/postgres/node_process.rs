//! Processes with a node that runs the orders of the program `chaos`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::schema::Schema;
use tokio_postgres::Client;

/// The program of a process.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_chaos");

/// A process with a node, killed on drop.
pub(crate) struct NodeProcess(Child);

impl NodeProcess {
    /// Starts a process by a command that ends with [`PROGRAM`].
    pub(crate) fn start(mut command: Command, url: &str, schema: &Schema, lease: Duration) -> Self {
        let variables = [
            ("CHAOS_SCHEMA", schema.name().to_owned()),
            ("CHAOS_URL", url.to_owned()),
            ("CHAOS_EFFECTS_URL", url.to_owned()),
            ("CHAOS_LEASE", lease.as_millis().to_string()),
        ];
        command.envs(variables).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("kill");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Creates the tables of the effects of orders.
pub(crate) async fn create_effects(server: &Client) {
    let effects =
        "CREATE TABLE public.effects (key text PRIMARY KEY, step text NOT NULL, runs integer NOT NULL DEFAULT 1);
        CREATE TABLE public.payments (key text NOT NULL, step text NOT NULL)";
    server.batch_execute(effects).await.expect("create");
}

/// Returns the input of an order that sleeps for seconds after its first activities.
pub(crate) fn order() -> serde_json::Value {
    serde_json::json!({ "number": 4, "parcels": 1, "steps": [] })
}
