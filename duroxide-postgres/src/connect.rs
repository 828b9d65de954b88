//! Connections: their setup, their prepared statements, and pipelines of statements.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use duroxide::provider::ProviderError;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row, Statement};

use crate::fault::{Fault, open_error};
use crate::hosts::Hosts;
use crate::options::PostgresOptions;
use crate::pooled::{self, Pooling};
use crate::sessionless::{Bound, Frame, Sessionless};
use crate::settings;

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
    /// True if the way to the database leads through a pooler that keeps no sessions; once that is known.
    is_pooled: Arc<OnceLock<bool>>,
    /// As `is_pooled`, for the connection that listens.
    listens_pooled: Arc<OnceLock<bool>>,
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

    /// The longest time of one round trip with this many statements. The limits of the network do not notice a silent server
    /// behind a proxy, which answers for it.
    fn limit(self, statements: usize) -> Duration {
        match self {
            // The statements of a removal may take long together.
            Self::Planned => LIMIT * u32::try_from(statements.max(1)).unwrap_or(u32::MAX),
            Self::Hot | Self::Waiting | Self::Reading | Self::Listening | Self::Program => LIMIT,
        }
    }
}

impl Database {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, ProviderError> {
        options.check()?;
        let hosts = Hosts::of(&options.url)?;
        let listen = options.listen_url.as_deref().map_or_else(|| Ok(hosts.clone()), Hosts::of)?;
        let lock_class = lock_class(&options.schema);
        let is_pooled: Arc<OnceLock<bool>> = Arc::default();
        if options.is_pooled {
            is_pooled.get_or_init(|| true);
        }
        let listens_pooled = if options.listen_url.is_some() { Arc::default() } else { is_pooled.clone() };
        let (schema, silences) = (options.schema.clone(), Arc::default());
        Ok(Self { hosts, listen, schema, lock_class, silences, is_pooled, listens_pooled })
    }

    /// Opens a connection. The task of the connection is spawned on the current runtime, and ends with the connection.
    pub(crate) async fn open(&self, purpose: Use) -> Result<Connection, ProviderError> {
        self.set_up(self.connect(purpose, drop).await?, purpose).await
    }

    /// Opens a connection for the statements of the program, with the settings of its role.
    pub(crate) async fn open_plain(&self, purpose: Use) -> Result<Client, ProviderError> {
        let client = self.connect(purpose, drop).await?;
        if !self.is_pooled() {
            client.batch_execute(&settings::of_program("SET")).await.map_err(|error| open_error(&error))?;
        }
        Ok(client)
    }

    /// Opens the connection that listens; `notified` receives the payloads of notifications.
    pub(crate) async fn listen(
        &self,
        notified: impl FnMut(String) + Clone + Send + 'static,
    ) -> Result<Connection, ProviderError> {
        let client = self.connect(Use::Listening, notified).await?;
        if self.listens_pooled.get().is_none() {
            let found = self.find_pooler(&client, Use::Listening).await?;
            self.listens_pooled.get_or_init(|| found);
        }
        self.set_up(client, Use::Listening).await
    }

    /// Opens the first connection: finds out about a pooler before anything is set that another client of it would get.
    pub(crate) async fn open_first(&self, purpose: Use) -> Result<Connection, ProviderError> {
        let client = self.connect(purpose, drop).await?;
        let found = self.find_pooler(&client, purpose).await?;
        self.is_pooled.get_or_init(|| found);
        if self.is_pooled() {
            pooled::warn(&self.schema);
        }
        self.set_up(client, purpose).await
    }

    /// Returns true if the connections lead through a pooler that keeps no sessions.
    pub(crate) fn is_pooled(&self) -> bool {
        self.is_pooled.get() == Some(&true)
    }

    /// Returns true if a pooler keeps no sessions. Refuses one that loses prepared statements. A check that fails is no answer:
    /// settings of a session would reach other clients of a pooler, and other schemas.
    async fn find_pooler(&self, first: &Client, purpose: Use) -> Result<bool, ProviderError> {
        let check = async {
            let second = self.connect(purpose, drop).await?;
            let is_known = purpose != Use::Listening && self.is_pooled();
            pooled::find(first, &second, is_known).await.map_err(|error| open_error(&error))
        };
        let found = tokio::time::timeout(LIMIT, check).await;
        let found = found.map_err(|late| ProviderError::retryable(CONNECTING, late))??;
        // A connection that hears nothing needs no prepared statement.
        if found == Pooling::LosesStatements && purpose != Use::Listening {
            return Err(pooled::refused());
        }
        Ok(found != Pooling::KeepsSessions)
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
        let known = if purpose == Use::Listening { &self.listens_pooled } else { &self.is_pooled };
        let is_pooled = known.get() == Some(&true);
        let sessionless = is_pooled.then(|| Sessionless::new(settings::of_transaction(purpose, &self.schema)));
        if !is_pooled {
            let set = settings::of_session(purpose, &self.schema);
            let set = tokio::time::timeout(LIMIT, client.batch_execute(&set)).await;
            set.map_err(|late| ProviderError::retryable(CONNECTING, late))?.map_err(|error| open_error(&error))?;
        }
        Ok(Connection {
            client,
            purpose,
            sessionless,
            statements: Mutex::default(),
            is_spoiled: AtomicBool::new(false),
            silences: self.silences.clone(),
            opened_after: self.silences.load(Ordering::Relaxed),
        })
    }
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
    /// Behind a pooler that keeps no session.
    sessionless: Option<Sessionless>,
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
        let Some(sessionless) = &self.sessionless else {
            return self.send(steps).await;
        };
        let frame = Frame::of(steps, sessionless.is_open());
        let done = match frame {
            Frame::Within => self.send(steps).await,
            Frame::Begin | Frame::BeginOther | Frame::Alone => self.send_framed(sessionless, frame, steps).await,
        };
        sessionless.note_end(frame, steps, done.is_ok());
        if done.is_err() && frame != Frame::Within {
            // Its settings may have failed, or a later statement.
            self.roll_back().await;
        }
        done
    }

    async fn send_framed(
        &self,
        sessionless: &Sessionless,
        frame: Frame,
        steps: &[Step<'_>],
    ) -> Result<Vec<Vec<Row>>, Fault> {
        self.prepare_alone(sessionless, steps).await?;
        let _sending = sessionless.gate.read().await;
        let statements = self.prepared(steps).await?;
        sessionless.run(&self.client, frame, &statements).await
    }

    async fn send(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Fault> {
        let statements = self.prepared(steps).await?;
        in_order(statements.iter().map(|statement| statement.send(&self.client))).await.into_iter().collect()
    }

    /// Returns the steps with their prepared statements.
    async fn prepared<'s>(&self, steps: &'s [Step<'_>]) -> Result<Vec<Bound<'s>>, Fault> {
        let mut prepared = Vec::with_capacity(steps.len());
        for step in steps {
            let values = step.values.iter().map(|value| &**value as _).collect();
            prepared.push(Bound { statement: self.prepare(step.sql).await?, values });
        }
        Ok(prepared)
    }

    /// Prepares statements in a transaction of their own, since they name tables of the schema. No other statement is sent
    /// meanwhile.
    async fn prepare_alone(&self, sessionless: &Sessionless, steps: &[Step<'_>]) -> Result<(), Fault> {
        let is_known = |sql| self.statements.lock().unwrap_or_else(PoisonError::into_inner).contains_key(sql);
        if steps.iter().all(|step| is_known(step.sql)) {
            return Ok(());
        }
        self.alone(sessionless, async {
            for step in steps {
                self.prepare(step.sql).await?;
            }
            Ok(())
        })
        .await
    }

    /// Carries out `body` in a transaction, while no other statement is sent. A connection whose transaction may still be
    /// open is not used again.
    async fn alone<T>(
        &self,
        sessionless: &Sessionless,
        body: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let _alone = sessionless.gate.write().await;
        let open = SpoilsUnlessEnded(self);
        self.client.batch_execute(&sessionless.begin_text()).await?;
        let done = body.await;
        self.client.batch_execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        std::mem::forget(open);
        done
    }

    /// Runs one statement.
    pub(crate) async fn query(&self, step: Step<'_>) -> Result<Vec<Row>, Fault> {
        let mut rows = self.run(std::slice::from_ref(&step)).await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// Runs a statement that is not kept prepared.
    pub(crate) async fn query_text(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        let rows = async { Ok(self.client.query(sql, values).await?) };
        let rows = async {
            match &self.sessionless {
                Some(sessionless) if !sessionless.is_open() => self.alone(sessionless, rows).await,
                _ => rows.await,
            }
        };
        self.within(self.purpose.limit(1), rows).await
    }

    /// Runs statements without values, as one transaction unless they contain its beginning or its end.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.within(self.purpose.limit(1), self.execute_long(sql)).await
    }

    /// Like [`execute`](Self::execute), for statements that may take any time, such as those of a migration.
    pub(crate) async fn execute_long(&self, sql: &str) -> Result<(), Fault> {
        let Some(sessionless) = &self.sessionless else {
            return Ok(self.client.batch_execute(sql).await?);
        };
        let _sending = sessionless.gate.read().await;
        Ok(self.client.batch_execute(&sessionless.framed(sql)).await?)
    }

    /// Returns true if a pooler keeps no session of the connection.
    pub(crate) fn is_sessionless(&self) -> bool {
        self.sessionless.is_some()
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
        self.begun_by(step!("BEGIN"), body).await
    }

    /// Like [`transaction`](Self::transaction), for reads of one moment.
    pub(crate) async fn snapshot<T>(&self, body: impl AsyncFnOnce(&Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.begun_by(step!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"), body).await
    }

    async fn begun_by<T>(
        &self,
        begin: Step<'_>,
        body: impl AsyncFnOnce(&Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.query(begin).await?;
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
pub(crate) async fn in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
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

/// Spoils a connection whose transaction has not been ended.
struct SpoilsUnlessEnded<'a>(&'a Connection);

impl Drop for SpoilsUnlessEnded<'_> {
    fn drop(&mut self) {
        self.0.spoil();
    }
}

/// A connection that several tasks use.
pub(crate) type Shared = Arc<Connection>;
