//! Connections without a session: a pooler in transaction mode gives each transaction another one.
//!
//! Each transaction begins with its settings, which end with it, and each statement outside of one becomes a transaction.
//! So statements find the tables of the schema, have their limits and plans, and leave nothing to other clients of the
//! pooler. All is sent in one round trip. The pooler prepares a statement again in a session that does not know it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OnceCell, RwLock};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use crate::connect::{Step, in_order};
use crate::fault::Fault;

/// The default isolation of the role does not apply.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// A prepared statement with its values.
pub(crate) struct Bound<'a> {
    pub(crate) statement: Statement,
    pub(crate) values: Vec<&'a (dyn ToSql + Sync)>,
}

impl Bound<'_> {
    pub(crate) async fn send(&self, client: &Client) -> Result<Vec<Row>, Fault> {
        Ok(client.query(&self.statement, &self.values).await?)
    }
}

/// The place of statements that are sent together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// In an open transaction, or its end.
    Within,
    /// They begin a transaction.
    Begin,
    /// They begin a transaction that is not one of the default isolation.
    BeginOther,
    /// Each of them becomes a transaction: a later one sees what was committed after an earlier one.
    Alone,
}

impl Frame {
    /// Returns the place of these statements; `is_open`: they are sent in a transaction.
    pub(crate) fn of(steps: &[Step<'_>], is_open: bool) -> Self {
        let Some(first) = steps.first() else { return Self::Within };
        match first.sql {
            "BEGIN" => Self::Begin,
            other if other.starts_with("BEGIN") => Self::BeginOther,
            other if is_open || is_end(other) => Self::Within,
            _ => Self::Alone,
        }
    }
}

fn is_end(sql: &str) -> bool {
    matches!(sql, "COMMIT" | "ROLLBACK")
}

/// The transactions of a connection without a session.
pub(crate) struct Sessionless {
    settings: String,
    /// The statements around a transaction: its beginning, its settings, and its end.
    around: OnceCell<[Statement; 3]>,
    /// True within a transaction that spans several round trips; only one task uses the connection meanwhile.
    is_open: AtomicBool,
    /// Statements are sent by readers, a transaction at a time. A writer sends several round trips.
    pub(crate) gate: RwLock<()>,
}

impl Sessionless {
    pub(crate) fn new(settings: String) -> Self {
        Self { settings, around: OnceCell::new(), is_open: AtomicBool::new(false), gate: RwLock::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Notes if a transaction is open after these statements. One whose beginning has failed is rolled back.
    pub(crate) fn note_end(&self, frame: Frame, steps: &[Step<'_>], is_done: bool) {
        let ends = steps.last().is_some_and(|last| is_end(last.sql));
        let is_open = match frame {
            Frame::Within => self.is_open(),
            Frame::Begin | Frame::BeginOther => is_done,
            Frame::Alone => return,
        };
        self.is_open.store(is_open && !ends, Ordering::Relaxed);
    }

    /// Returns the text that begins a transaction.
    pub(crate) fn begin_text(&self) -> String {
        format!("{BEGIN}; {}", self.settings)
    }

    /// Returns the text to send for statements without values.
    pub(crate) fn framed<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        if let Some(rest) = sql.strip_prefix("BEGIN") {
            self.is_open.store(true, Ordering::Relaxed);
            return Cow::Owned(format!("{}{rest}", self.begin_text()));
        }
        if is_end(sql) {
            self.is_open.store(false, Ordering::Relaxed);
        } else if !self.is_open() {
            // Statements of one text are one transaction.
            return Cow::Owned(format!("{}; {sql}", self.settings));
        }
        Cow::Borrowed(sql)
    }

    /// Sends statements that begin a transaction, or each become one, and returns the rows of each.
    pub(crate) async fn run(
        &self,
        client: &Client,
        frame: Frame,
        statements: &[Bound<'_>],
    ) -> Result<Vec<Vec<Row>>, Fault> {
        let prepare = async || {
            Ok::<_, Error>([
                client.prepare(BEGIN).await?,
                client.prepare(&self.settings).await?,
                client.prepare("COMMIT").await?,
            ])
        };
        let around = self.around.get_or_try_init(prepare).await?.clone();
        let [begin, set, commit] = around.map(|statement| Bound { statement, values: Vec::new() });
        let sent: Vec<&Bound<'_>> = match (frame, statements) {
            (Frame::Begin, [_, rest @ ..]) => [&begin, &set].into_iter().chain(rest).collect(),
            (Frame::BeginOther, [other, rest @ ..]) => [other, &set].into_iter().chain(rest).collect(),
            _ => statements.iter().flat_map(|statement| [&begin, &set, statement, &commit]).collect(),
        };
        let answers = in_order(sent.iter().map(|statement| statement.send(client))).await;
        let mut rows = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        if frame == Frame::Alone {
            return Ok(rows.into_iter().skip(2).step_by(4).collect());
        }
        rows.remove(1);
        Ok(rows)
    }
}
