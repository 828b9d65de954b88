//! Connections: their setup, their prepared statements, and pipelines of statements.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use duroxide::provider::ProviderError;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row, Statement};

use crate::fault::{Fault, open_error};
use crate::hosts::Hosts;
use crate::options::PostgresOptions;
use crate::pooled;

const CONNECTING: &str = "connect to the database";
/// The longest time of one round trip, and of one request in most lanes. Above the time limit of a statement, so that the
/// server ends it first.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// A database and a schema in it.
#[derive(Clone)]
pub(crate) struct Database {
    hosts: Hosts,
    /// Those of the connection which listens.
    listen: Hosts,
    pub(crate) schema: String,
    /// The class of the advisory locks of this schema.
    pub(crate) lock_class: i32,
    /// The number of connections that have fallen silent.
    silences: Arc<AtomicU64>,
}

/// The use of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Statements that must return to the caller soon and never wait long for a lock.
    Hot,
    /// Statements that may wait for a lock, and are repeated.
    Waiting,
    /// Reads of the history and of single instances, watches and notifications.
    Reading,
    /// Statements whose plans are left to the server.
    Planned,
    /// Notifications of other processes.
    Listening,
    /// Statements of the program, in the transactions of its activities.
    Program,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Hot => "duroxide hot",
            Self::Waiting => "duroxide waiting",
            Self::Reading => "duroxide reading",
            Self::Planned => "duroxide planned",
            Self::Listening => "duroxide listening",
            Self::Program => "duroxide activities",
        }
    }

    fn lock_timeout(self) -> &'static str {
        match self {
            Self::Hot => "200ms",
            Self::Waiting => "250ms",
            Self::Reading | Self::Planned | Self::Listening | Self::Program => "5s",
        }
    }

    /// A statement that takes long on the connection that listens would delay its notifications, and would look like a
    /// connection that does not answer.
    fn statement_timeout(self) -> &'static str {
        match self {
            Self::Listening => "2s",
            Self::Hot | Self::Waiting | Self::Reading | Self::Planned | Self::Program => "10s",
        }
    }

    /// The longest time of one round trip with this many statements. The limits of the network do not notice a silent server
    /// behind a proxy, which answers for it.
    fn limit(self, statements: usize) -> Duration {
        match self {
            // The statements of a removal may take long together.
            Self::Planned => LIMIT * u32::try_from(statements.max(1)).unwrap_or(u32::MAX),
            Self::Hot | Self::Waiting | Self::Reading | Self::Listening | Self::Program => LIMIT,
        }
    }

    /// The limit of a transaction of short statements, with which the lane no longer waits for it either.
    fn transaction_timeout(self) -> Option<&'static str> {
        match self {
            Self::Hot | Self::Waiting | Self::Reading => Some("15s"),
            Self::Planned | Self::Listening | Self::Program => None,
        }
    }

    /// The plans of hot statements are fixed: a plan that was made while a table was empty, or for one list of values,
    /// would scan the table later. A row has a high cost, so that each plan uses all conditions of an index, even where the
    /// statistics say that some of them suffice.
    fn plans(self) -> &'static str {
        match self {
            Self::Planned | Self::Program => "",
            Self::Hot | Self::Waiting | Self::Reading | Self::Listening => {
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;
                 SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
                 SET random_page_cost = 1; SET cpu_tuple_cost = 1; SET cpu_index_tuple_cost = 1;
                 SET cpu_operator_cost = 0.1;"
            }
        }
    }
}

impl Database {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, ProviderError> {
        options.check()?;
        let hosts = Hosts::of(&options.url)?;
        let listen = options.listen_url.as_deref().map_or_else(|| Ok(hosts.clone()), Hosts::of)?;
        let lock_class = lock_class(&options.schema);
        Ok(Self { hosts, listen, schema: options.schema.clone(), lock_class, silences: Arc::default() })
    }

    /// Opens a connection. The task of the connection is spawned on the current runtime, and ends with the connection.
    pub(crate) async fn open(&self, purpose: Use) -> Result<Connection, ProviderError> {
        self.open_with(purpose, drop).await
    }

    /// Opens a connection for the statements of the program, with the settings of its role.
    pub(crate) async fn open_plain(&self, purpose: Use) -> Result<Client, ProviderError> {
        let client = self.connect(purpose, drop).await?;
        // Nothing of an attempt remains open for a long time if this process stops.
        let set = "SET idle_in_transaction_session_timeout = '60s'";
        client.batch_execute(set).await.map_err(|error| open_error(&error))?;
        Ok(client)
    }

    /// Opens a connection; `notified` receives the payloads of notifications.
    pub(crate) async fn open_with(
        &self,
        purpose: Use,
        notified: impl FnMut(String) + Clone + Send + 'static,
    ) -> Result<Connection, ProviderError> {
        self.set_up(self.connect(purpose, notified).await?, purpose).await
    }

    /// Opens the first connection. Refuses a pooler that does not keep the sessions of its clients, before anything is set
    /// that another client of it would get.
    pub(crate) async fn open_first(&self, purpose: Use) -> Result<Connection, ProviderError> {
        let first = self.connect(purpose, drop).await?;
        let check = async {
            let second = self.connect(purpose, drop).await?;
            pooled::is_pooled(&first, &second).await.map_err(|error| open_error(&error))
        };
        match tokio::time::timeout(LIMIT, check).await {
            Ok(Ok(true)) => return Err(pooled::refused()),
            Ok(Ok(false)) => {}
            // The requests that follow meet the cause, if it lasts.
            Ok(Err(error)) => tracing::warn!(%error, "it is not known whether a pooler keeps the sessions"),
            Err(_) => {
                tracing::warn!("it is not known whether a pooler keeps the sessions: there was no answer in time")
            }
        }
        self.set_up(first, purpose).await
    }

    /// Connects to the first host that accepts writes.
    async fn connect(
        &self,
        purpose: Use,
        notified: impl FnMut(String) + Clone + Send + 'static,
    ) -> Result<Client, ProviderError> {
        let hosts = if purpose == Use::Listening { &self.listen } else { &self.hosts };
        let mut failed = ProviderError::permanent(CONNECTING, "the URL names no host");
        for (host, mut config) in hosts.in_turn() {
            config.application_name(purpose.name());
            let limit = config.get_connect_timeout().map_or(LIMIT, |connect| 2 * *connect);
            match tokio::time::timeout(limit, connect(&config, notified.clone())).await {
                Ok(Ok(client)) => {
                    hosts.begin_with(host);
                    return Ok(client);
                }
                Ok(Err(error)) => failed = error,
                Err(late) => failed = ProviderError::retryable(CONNECTING, late),
            }
        }
        Err(failed)
    }

    async fn set_up(&self, client: Client, purpose: Use) -> Result<Connection, ProviderError> {
        // No `search_path` of the role or the database applies; names of the system come first.
        let set = format!(
            "SET search_path TO \"{}\"; SET jit = off; SET lock_timeout = '{}'; SET statement_timeout = '{}';
             SET idle_in_transaction_session_timeout = '10s'; SET default_transaction_isolation = 'read committed'; {} {} {}",
            self.schema,
            purpose.lock_timeout(),
            purpose.statement_timeout(),
            purpose.plans(),
            // A statement whose client is gone ends, and releases its locks.
            set_if_known("client_connection_check_interval", "1s"),
            purpose.transaction_timeout().map(|limit| set_if_known("transaction_timeout", limit)).unwrap_or_default()
        );
        let set = tokio::time::timeout(LIMIT, client.batch_execute(&set)).await;
        set.map_err(|late| ProviderError::retryable(CONNECTING, late))?.map_err(|error| open_error(&error))?;
        Ok(Connection {
            client,
            purpose,
            statements: Mutex::default(),
            is_spoiled: AtomicBool::new(false),
            silences: self.silences.clone(),
            opened_after: self.silences.load(Ordering::Relaxed),
        })
    }
}

/// Returns a statement for a setting that older servers, or those of other operating systems, do not have.
fn set_if_known(name: &str, value: &str) -> String {
    format!(
        "DO $$ BEGIN
             IF current_setting('{name}', true) IS NOT NULL THEN PERFORM set_config('{name}', '{value}', false); END IF;
         EXCEPTION WHEN OTHERS THEN NULL; END $$;"
    )
}

/// Returns a number for the schema: FNV-1a, which is the same in every version of every program.
pub(crate) fn lock_class(schema: &str) -> i32 {
    let hash = schema.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.cast_signed()
}

#[cfg(feature = "tls")]
async fn connect(config: &Config, notified: impl FnMut(String) + Send + 'static) -> Result<Client, ProviderError> {
    if config.get_ssl_mode() == tokio_postgres::config::SslMode::Disable {
        return plain(config, notified).await;
    }
    let tls = crate::tls::connector()?;
    let (client, connection) = config.connect(tls).await.map_err(|error| open_error(&error))?;
    drive(connection, notified);
    Ok(client)
}

#[cfg(not(feature = "tls"))]
async fn connect(config: &Config, notified: impl FnMut(String) + Send + 'static) -> Result<Client, ProviderError> {
    plain(config, notified).await
}

async fn plain(config: &Config, notified: impl FnMut(String) + Send + 'static) -> Result<Client, ProviderError> {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|error| open_error(&error))?;
    drive(connection, notified);
    Ok(client)
}

/// Drives a connection until it ends. Its errors are those of the requests.
fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, mut notified: impl FnMut(String) + Send + 'static)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                notified(notification.payload().to_owned());
            }
        }
    });
}

/// A value of a statement.
pub(crate) type Value<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A statement of a pipeline, with its values.
pub(crate) struct Step<'a> {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Value<'a>>,
}

/// Makes a [`Step`] of a statement and its values.
macro_rules! step {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::connect::Step { sql: $sql, values: vec![$(Box::new($value) as $crate::connect::Value<'_>),*] }
    };
}
pub(crate) use step;

/// An open connection. Every wait for the server has a limit; when it has passed, the connection is not used again.
pub(crate) struct Connection {
    client: Client,
    purpose: Use,
    /// A statement is prepared once per connection. A std mutex, never held across an await.
    statements: Mutex<HashMap<&'static str, Statement>>,
    is_spoiled: AtomicBool,
    /// The number of connections of the provider that have fallen silent, now and when this one was opened.
    silences: Arc<AtomicU64>,
    opened_after: u64,
}

impl Connection {
    /// Returns true if the connection is lost, or is not to be used again: also if another one has fallen silent since it was
    /// opened. Then all of them probably have, and each would cost the longest wait.
    pub(crate) fn is_closed(&self) -> bool {
        self.silences.load(Ordering::Relaxed) != self.opened_after || self.is_lost()
    }

    fn is_lost(&self) -> bool {
        self.client.is_closed() || self.is_spoiled.load(Ordering::Relaxed)
    }

    /// Marks a connection in an unknown state. It is closed once its last user has dropped it, which ends its transaction.
    pub(crate) fn spoil(&self) {
        self.is_spoiled.store(true, Ordering::Relaxed);
    }

    /// The connection has not answered within [`LIMIT`].
    pub(crate) fn fell_silent(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
        self.spoil();
    }

    async fn prepare(&self, sql: &'static str) -> Result<Statement, Fault> {
        let known = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    /// Runs statements in one round trip, in their order, and returns the rows of each.
    ///
    /// If one fails within a transaction, the server refuses the later ones, including COMMIT; the error is that of the
    /// first. A COMMIT of a failed transaction answers ROLLBACK *without* an error, so a transaction has been committed
    /// only if each of its statements has succeeded.
    pub(crate) async fn run(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Fault> {
        self.within(self.purpose.limit(steps.len()), self.run_prepared(steps)).await
    }

    async fn run_prepared(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Fault> {
        let mut prepared = Vec::with_capacity(steps.len());
        for step in steps {
            prepared.push(self.prepare(step.sql).await?);
        }
        let sent = steps.iter().zip(&prepared).map(|(step, statement)| {
            let values: Vec<&(dyn ToSql + Sync)> = step.values.iter().map(|value| &**value as _).collect();
            async move { self.client.query(statement, &values).await }
        });
        in_order(sent).await.into_iter().map(|rows| Ok(rows?)).collect()
    }

    /// Runs one statement.
    pub(crate) async fn query(&self, step: Step<'_>) -> Result<Vec<Row>, Fault> {
        let mut rows = self.run(std::slice::from_ref(&step)).await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// Runs a statement that is not kept prepared.
    pub(crate) async fn query_text(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        let rows = async { Ok(self.client.query(sql, values).await?) };
        self.within(self.purpose.limit(1), rows).await
    }

    /// Runs statements without values, as one transaction unless they contain its beginning or its end.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.within(self.purpose.limit(1), async { Ok(self.client.batch_execute(sql).await?) }).await
    }

    /// Like [`execute`](Self::execute), for statements that may take any time, such as those of a migration.
    pub(crate) async fn execute_long(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Rolls back. If that fails, the connection is not used again, and its end has the same effect.
    pub(crate) async fn roll_back(&self) {
        if !self.is_lost() && self.execute("ROLLBACK").await.is_err() {
            self.spoil();
        }
    }

    async fn within<T>(&self, limit: Duration, answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            self.fell_silent();
            Err(Fault::Late)
        })
    }

    /// Runs the statements of `body` in one transaction, and rolls it back if `body` fails. A transaction whose future is
    /// dropped stays open: the caller must then close the connection.
    pub(crate) async fn transaction<T>(&self, body: impl AsyncFnOnce(&Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.query(step!("BEGIN")).await?;
        let done = match body(self).await {
            Ok(done) => self.query(step!("COMMIT")).await.map(|_| done),
            Err(fault) => Err(fault),
        };
        if done.is_err() {
            self.roll_back().await;
        }
        done
    }
}

/// Polls futures in their order, so that their first polls send the statements in that order. Returns all results.
async fn in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Option<Pin<Box<F>>>> = futures.map(|future| Some(Box::pin(future))).collect();
    let mut results: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        let mut is_done = true;
        for (slot, result) in waiting.iter_mut().zip(&mut results) {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(output) => {
                    *result = Some(output);
                    *slot = None;
                }
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(results.drain(..).flatten().collect()) } else { Poll::Pending }
    })
    .await
}

/// A connection that several tasks use.
pub(crate) type Shared = Arc<Connection>;
