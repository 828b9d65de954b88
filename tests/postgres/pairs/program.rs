//! Requests within transactions of a program, and the delivery of events from the outbox.

use std::sync::Arc;
use std::time::Duration;

use duroxide::provider::*;
use duroxide_postgres::{PostgresProvider, TokioPostgres, Tx};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::gate;
use crate::changes::Changes;

/// Longer than each transaction.
const LIMIT: Duration = Duration::from_secs(60);

/// A provider, and the program beside it. In memory there is none.
pub(super) struct Side {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) program: Option<Program>,
}

pub(super) struct Program {
    provider: PostgresProvider,
    /// Async mutexes: they are held by the one that waits.
    client: Mutex<Client>,
    outbox: Arc<Mutex<Changes>>,
}

impl Side {
    pub(super) async fn new(provider: PostgresProvider, url: &str, outbox: Arc<Mutex<Changes>>) -> Self {
        let client = Mutex::new(gate::connect(&gate::with(url, "application_name=duroxide%20program")).await);
        let program = Program { provider: provider.clone(), client, outbox };
        Self { provider: Arc::new(provider), program: Some(program) }
    }

    /// Submits in a transaction of the program; in memory, directly.
    pub(super) async fn submit_within(&self, submission: Submission) -> String {
        let done = match &self.program {
            None => self.provider.submit(vec![submission]).await.expect("submit").remove(0).map(drop),
            Some(program) => program.submit(&submission).await,
        };
        format!("{done:?}")
    }

    /// Writes an outcome in the transaction of an activity; in memory, directly. Returns true if its tenure is not over.
    pub(super) async fn outcome_within(&self, lease: Lease, tenure: Tenure, message: MessageRow) -> bool {
        if self.program.is_none() {
            let commit = Commit { id: duroxide::id::CommitId::new(), write: Write::Outcome { tenure, message } };
            return self.provider.commit(&lease, vec![Arc::new(commit)]).await.expect("commit").remove(0).is_ok();
        }
        let attempt = TransactionalAttempt::new(self.provider.clone(), lease, tenure, LIMIT);
        match TokioPostgres::run(&attempt, &(), &mut Body(message)).await.expect("it has ended") {
            TransactionEnd::Committed => true,
            TransactionEnd::Fenced => false,
            other => panic!("{other:?}"),
        }
    }

    /// Delivers an event from the outbox; in memory, directly.
    pub(super) async fn deliver(&self, submission: Submission) {
        match (&self.program, submission) {
            (Some(program), Submission::Send(request)) => program.deliver(&request).await,
            (_, submission) => drop(self.provider.submit(vec![submission]).await.expect("submit")),
        }
    }

    /// Waits until the outbox is empty.
    pub(super) async fn delivered(&self) {
        if let Some(program) = &self.program {
            program.delivered().await;
        }
    }
}

impl Program {
    async fn submit(&self, submission: &Submission) -> Result<(), SubmitError> {
        let mut client = self.client.lock().await;
        let mut tx = client.transaction().await.expect("begin");
        let provider = self.provider.transactional().expect("it has transactions");
        let refused = match (&mut tx).submit(provider, submission).await {
            Ok(_) => None,
            Err(WithinError::Refused(refused)) => Some(refused),
            Err(error) => panic!("{error}"),
        };
        tx.commit().await.expect("commit");
        refused.map_or(Ok(()), Err)
    }

    /// The row is not held: it was written before the delivery.
    async fn deliver(&self, SendRequest { to, message, .. }: &SendRequest) {
        let insert = "INSERT INTO outbox (instance, id, sent_at, format, data)
            SELECT seq, $2::text::uuid, 3000000, 1, $3 FROM instances WHERE id = $1";
        let mut outbox = self.outbox.lock().await;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&to.as_str(), &message.id.0.to_string(), &message.data];
        outbox.server.execute(insert, &values).await.expect("insert");
        self.provider.transactional().expect("it has transactions").committed();
        outbox.until(EMPTY).await;
    }

    async fn delivered(&self) {
        self.outbox.lock().await.until(EMPTY).await;
    }
}

const EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM outbox WHERE refused IS NULL)";

/// An activity that writes nothing but its outcome.
struct Body(MessageRow);

impl TransactionBody<TokioPostgres> for Body {
    fn run<'b>(&'b mut self, _: &'b mut Tx<'_>) -> BoxFuture<'b, Option<MessageRow>> {
        std::future::ready(Some(self.0.clone())).boxed()
    }
}
