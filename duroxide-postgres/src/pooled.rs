//! Recognises a pooler in transaction mode, which gives each transaction of a client any session of the server.
//!
//! Behind such a pooler a connection has no session ([`sessionless`](crate::sessionless)). There is no false alarm: on a
//! connection that keeps its session, that session never changes, and no other connection has it.

use std::collections::HashSet;
use std::time::Duration;

use duroxide::provider::ProviderError;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// A setting that no program reads. Some poolers keep the session of a client that has set one.
const SET: &str = "SET duroxide.session = 'kept'";
/// The session of the server. It is asked for without a prepared statement, which a pooler may lose.
macro_rules! session {
    () => {
        "SELECT pg_backend_pid() || ' of ' || extract(epoch FROM pg_postmaster_start_time())"
    };
}
/// The time for which the second connection holds a session while the first one waits for another.
const HELD: Duration = Duration::from_secs(1);
/// The errors of a statement that a pooler has not prepared in the session.
const LOST: [SqlState; 2] = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
/// Several, since other clients of the pooler take sessions, too.
const ROUNDS: usize = 6;

/// The way to the server, as far as two connections show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The connections keep their sessions.
    KeepsSessions,
    /// They do not, and the pooler prepares their statements in each session.
    KeepsStatements,
    /// They keep neither.
    LosesStatements,
}

/// Finds out if two connections keep their sessions, unless it is known that they do not, and else their prepared
/// statements.
pub(crate) async fn find(first: &Client, second: &Client, is_known: bool) -> Result<Pooling, Error> {
    if !is_known && keep_sessions(first, second).await? {
        return Ok(Pooling::KeepsSessions);
    }
    let keeps = keeps_statements(first, second).await?;
    Ok(if keeps { Pooling::KeepsStatements } else { Pooling::LosesStatements })
}

/// Returns false if a connection has had two sessions, or both have had the same one. The first one has the session that it
/// had last, unless the second one, or another client, holds it in a transaction.
async fn keep_sessions(first: &Client, second: &Client) -> Result<bool, Error> {
    for client in [first, second] {
        client.batch_execute(SET).await?;
    }
    let (mut of_first, mut of_second) = (HashSet::new(), HashSet::new());
    for _ in 0..ROUNDS {
        of_first.insert(session(first, session!()).await?);
        of_second.insert(session(second, concat!("BEGIN; ", session!())).await?);
        // The first one may get no session while all of them are held, also by other processes that begin.
        let again = session(first, session!());
        tokio::pin!(again);
        if let Ok(session) = tokio::time::timeout(HELD, &mut again).await {
            of_first.insert(session?);
            second.batch_execute("ROLLBACK").await?;
        } else {
            second.batch_execute("ROLLBACK").await?;
            of_first.insert(again.await?);
        }
        if of_first.len() > 1 || of_second.len() > 1 || of_first == of_second {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns false if a statement of the first connection is unknown in a session in which it was not prepared.
async fn keeps_statements(first: &Client, second: &Client) -> Result<bool, Error> {
    for _ in 0..ROUNDS {
        let statement = first.prepare("SELECT 1").await;
        second.batch_execute("BEGIN").await?;
        let answer = async {
            let statement = statement?;
            first.query(&statement, &[]).await.map(drop)
        };
        tokio::pin!(answer);
        let in_time = tokio::time::timeout(HELD, &mut answer).await;
        second.batch_execute("ROLLBACK").await?;
        let answer = match in_time {
            Ok(answer) => answer,
            Err(_) => answer.await,
        };
        match answer {
            Ok(()) => {}
            // It is unknown, or another client has prepared one of this name.
            Err(error) if error.code().is_some_and(|code| LOST.contains(code)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
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
    let reason = "the URL leads through a pooler in transaction mode that does not keep prepared statements, such as \
        PgBouncer without `max_prepared_statements`, or older than 1.21; set it, or use its session mode, or a URL that leads \
        to the server directly";
    ProviderError::permanent("open the database", reason)
}

/// Says at the start what is lost.
pub(crate) fn warn(schema: &str) {
    tracing::warn!(
        schema,
        "the URL leads through a pooler in transaction mode: each transaction sends its settings; without \
         `PostgresOptions::listen_url`, the death of a process is noticed when its lease is over, not within seconds"
    );
}
