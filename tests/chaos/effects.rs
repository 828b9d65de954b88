//! A record of effects outside of the tables of the provider: a table of the same server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::{Client, Error, NoTls};

/// The pause between attempts to reach the server, which may be down.
const PAUSE: Duration = Duration::from_millis(100);

/// A payment has no key that would refuse a second one: its transaction alone keeps it from being made twice.
const CREATE: &str = "CREATE TABLE effects (
    key text PRIMARY KEY, step text NOT NULL, runs integer NOT NULL DEFAULT 1);
    CREATE TABLE payments (key text NOT NULL, step text NOT NULL)";

/// Writes effects. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Effects {
    url: Arc<str>,
    /// A tokio mutex, since a statement is carried out under it.
    client: Arc<Mutex<Option<Client>>>,
}

impl Effects {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.into(), client: Arc::default() }
    }

    /// Creates the tables.
    pub(crate) async fn create(&self) {
        connect(&self.url).await.unwrap().batch_execute(CREATE).await.unwrap();
    }

    /// Records the effect of a step under its idempotency key. Tries again until the server has answered.
    pub(crate) async fn record(&self, key: &str, step: &str) {
        while let Err(error) = self.try_to_record(key, step).await {
            tracing::info!(%error, "the record of effects is not reached");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_to_record(&self, key: &str, step: &str) -> Result<(), Error> {
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = Some(connect(&self.url).await?);
        }
        let Some(client) = &*client else { return Ok(()) };
        let insert = "INSERT INTO effects (key, step) VALUES ($1, $2)
            ON CONFLICT (key) DO UPDATE SET runs = effects.runs + 1";
        client.execute(insert, &[&key, &step]).await.map(drop)
    }
}

/// Connects to a server directly.
pub(crate) async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
