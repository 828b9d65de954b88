//! Holds the transactions of one provider at their commit.

use duroxide::provider::Lease;
use support::postgres::Cluster;
use support::schema::Schema;
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::{Client, NoTls};

/// The server logs each wait for a lock soon.
const SETTINGS: &[(&str, &str)] = &[("log_lock_waits", "on"), ("deadlock_timeout", "'5ms'")];

/// A deferred trigger runs at the commit. It waits for a lock of the gate if the session has a mark. A delivery of events from
/// the outbox, which any process makes, waits if there is a row for it.
const INSTALL: &str = "
    CREATE TABLE held_deliveries ();
    CREATE FUNCTION delivers() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('gate.delivers', 'on', true);
        RETURN NULL;
    END $$;
    CREATE TRIGGER delivers AFTER UPDATE OR DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION delivers();
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
        IF (CASE WHEN current_setting('gate.delivers', true) = 'on' THEN EXISTS (SELECT FROM held_deliveries)
            ELSE current_setting('gate.holds', true) = 'on' END) THEN
            PERFORM set_config('lock_timeout', '0', true);
            PERFORM pg_advisory_xact_lock_shared(7007, 1);
        END IF;
        RETURN NULL;
    END $$;
    DO $$ DECLARE t text; BEGIN
        FOREACH t IN ARRAY ARRAY['instances', 'live', 'ready', 'messages', 'activities', 'nodes', 'dedup', 'mail', 'events',
            'executions', 'outbox'] LOOP
            EXECUTE format('CREATE CONSTRAINT TRIGGER hold AFTER INSERT OR UPDATE OR DELETE ON %I
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()', t);
        END LOOP;
    END $$";

/// Returns a URL whose sessions have the mark.
pub(crate) fn held_url(url: &str) -> String {
    with(url, "options=-c%20gate.holds%3Don")
}

/// Returns a URL with another parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

/// Starts a server that logs waits.
pub(crate) fn server() -> Option<Cluster> {
    Cluster::start(SETTINGS)
}

/// Creates a database, whose gate is its own. Returns its URL.
pub(crate) async fn database(server: &Cluster, name: &str) -> String {
    let client = connect(&server.url()).await;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("create");
    let url = server.url();
    let url = url.strip_suffix("postgres").expect("it names the first database");
    format!("{url}{name}")
}

/// Opens a connection of a program.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

pub(crate) struct Gate {
    client: Client,
    /// Tells that a transaction may have begun to wait. An async mutex: it is held by the one that waits.
    waits: Mutex<mpsc::UnboundedReceiver<()>>,
}

impl Gate {
    pub(crate) async fn install(server: &Cluster, url: &str, schema: &Schema) -> Self {
        let client = connect(url).await;
        client.batch_execute(&schema.within(INSTALL)).await.expect("install");
        Self { client, waits: Mutex::new(server.follow_log("still waiting for")) }
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.expect("execute");
    }

    pub(crate) async fn close(&self) {
        self.execute("SELECT pg_advisory_lock(7007, 1)").await;
    }

    pub(crate) async fn open(&self) {
        self.execute("SELECT pg_advisory_unlock_all()").await;
    }

    /// Empties all tables.
    pub(crate) async fn clear(&self) {
        let tables = "instances live ready events executions messages activities attempts rejections mail cancellations dedup nodes outbox
            held_deliveries";
        let clear: Vec<_> = tables.split_whitespace().map(|table| format!("DELETE FROM {table}")).collect();
        self.execute(&clear.join("; ")).await;
    }

    /// Holds deliveries of events from the outbox.
    pub(crate) async fn hold_deliveries(&self) {
        self.execute("INSERT INTO held_deliveries DEFAULT VALUES").await;
    }

    /// Makes the lease of a node end, as if it had not been renewed for a long time.
    pub(crate) async fn expire(&self, lease: Lease) {
        let expire = "UPDATE nodes SET expires_at = 'epoch', suspected_at = 'epoch' WHERE epoch";
        self.execute(&format!("{expire} = {}", lease.epoch)).await;
    }

    /// Waits until a transaction waits at the gate.
    pub(crate) async fn until_held(&self) {
        self.until("count(*) FILTER (WHERE classid = 7007 AND locktype = 'advisory') > 0").await;
    }

    /// Waits until another transaction waits beside it.
    pub(crate) async fn until_both_wait(&self) {
        self.until("count(*) FILTER (WHERE classid IS DISTINCT FROM 7007 OR locktype <> 'advisory') > 0").await;
    }

    async fn until(&self, condition: &str) {
        let query = format!(
            "SELECT {condition} FROM pg_locks WHERE NOT granted AND pid IN (
                 SELECT pid FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name LIKE 'duroxide %')"
        );
        let mut waits = self.waits.lock().await;
        while !self.client.query_one(&query, &[]).await.expect("query").get::<_, bool>(0) {
            waits.recv().await.expect("the server runs");
        }
    }
}
