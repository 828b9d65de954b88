//! Changes of tables, as triggers of a test tell of them.

use std::time::Duration;

use support::schema::Schema;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// A connection to a schema that hears of changes.
pub(crate) struct Changes {
    pub(crate) server: Client,
    changed: mpsc::UnboundedReceiver<()>,
}

impl Changes {
    /// Follows changes of the schema. `of` lists events of triggers, such as `UPDATE OF expires_at ON nodes`.
    pub(crate) async fn follow(url: &str, schema: &Schema, of: &[&str]) -> Self {
        let (server, mut connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
        let (sent, changed) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(_)) && sent.send(()).is_err() {
                    return;
                }
            }
        });
        let channel = format!("changes_{}", schema.name());
        let function = format!(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN PERFORM pg_notify('{channel}', ''); RETURN NEW; END $$;
             LISTEN {channel}"
        );
        server.batch_execute(&schema.within(&function)).await.expect("listen");
        for (n, events) in of.iter().enumerate() {
            let trigger = format!("CREATE TRIGGER tell_{n} AFTER {events} FOR EACH ROW EXECUTE FUNCTION tell()");
            server.batch_execute(&trigger).await.expect("create a trigger");
        }
        Self { server, changed }
    }

    /// Waits for so many changes that were not waited for before.
    pub(crate) async fn wait_for(&mut self, count: u64) {
        for _ in 0..count {
            self.changed.recv().await.expect("the connection lives");
        }
    }

    /// Waits until a query returns true: it is asked now, and after each change.
    pub(crate) async fn until(&mut self, query: &str) {
        while !self.server.query_one(query, &[]).await.expect("query").get::<_, bool>(0) {
            self.wait_for(1).await;
        }
    }

    /// Waits as [`until`](Self::until) does. If it takes longer than `limit`, the test fails and shows the nodes.
    pub(crate) async fn until_within(&mut self, limit: Duration, query: &str) {
        if tokio::time::timeout(limit, self.until(query)).await.is_err() {
            let nodes = "SELECT coalesce(json_agg(n), '[]')::text FROM nodes n";
            let nodes: String = self.server.query_one(nodes, &[]).await.expect("query").get(0);
            panic!("{query}: {nodes}");
        }
    }
}
