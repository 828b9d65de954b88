//! Recognises a pooler in transaction mode, which gives each transaction of a client any session of the server.
//!
//! The connections of a provider choose their schema and their limits by `SET`, and prepare statements: behind such a pooler
//! they would lose both, and other programs would get them. So the provider does not start. There is no false alarm: on a
//! connection that keeps its session, that session never changes, and no other connection has it.

use duroxide::provider::ProviderError;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// A setting that no program reads. Some poolers keep the session of a client that has set one.
const SET: &str = "SET duroxide.session = 'kept'";
/// The session of the server. It is asked for without a prepared statement, which a pooler may lose.
macro_rules! session {
    () => {
        "SELECT pg_backend_pid() || ' of ' || extract(epoch FROM pg_postmaster_start_time())"
    };
}
/// Two, since another client of the pooler may take the session in between.
const ROUNDS: usize = 2;

/// Returns true if two connections do not keep their sessions. The first one has the session that it had last, unless
/// the second one holds it in a transaction.
pub(crate) async fn is_pooled(first: &Client, second: &Client) -> Result<bool, Error> {
    for client in [first, second] {
        client.batch_execute(SET).await?;
    }
    for _ in 0..ROUNDS {
        let before = session(first, session!()).await?;
        let held = session(second, concat!("BEGIN; ", session!())).await?;
        let is_pooled = held == before || session(first, session!()).await? != before;
        second.batch_execute("ROLLBACK").await?;
        if is_pooled {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn session(client: &Client, read: &str) -> Result<Option<String>, Error> {
    let answers = client.simple_query(read).await?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Returns the error of a start.
pub(crate) fn refused() -> ProviderError {
    let reason = "the URL leads through a pooler in transaction mode, which does not keep the session of a connection; use \
        its session mode, or a URL that leads to the server directly";
    ProviderError::permanent("open the database", reason)
}
