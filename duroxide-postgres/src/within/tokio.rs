//! Transactions of `tokio-postgres`.

use duroxide::provider::{Submission, Submitted, Transactional, UserTransaction, WithinError};
use futures_util::future::BoxFuture;
use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::{By, Postgres, Quiet, SqlError, SqlTransaction, SqlValue, submit};
use crate::fault::Fault;

impl SqlValue<'_> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Int(value) => (value, Type::INT8),
            Self::Text(value) => (value, Type::TEXT),
            Self::Bytes(value) => (value, Type::BYTEA),
            Self::Uuid(value) => (value, Type::UUID),
        }
    }
}

impl SqlTransaction for Transaction<'_> {
    fn run<'a>(
        &'a mut self,
        sql: &'a str,
        values: &'a [SqlValue<'a>],
    ) -> BoxFuture<'a, Result<Option<String>, SqlError>> {
        Box::pin(async move {
            let values: Vec<_> = values.iter().map(SqlValue::typed).collect();
            // Without a prepared statement: one round trip, even behind a pooler.
            let row = self.query_typed_opt(sql, &values).await?;
            row.map_or(Ok(None), |row| row.try_get(0)).map_err(SqlError::from)
        })
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        let state = error.code().map(|code| code.code().to_owned());
        Self { state, reason: Fault::Sql(error).reason() }
    }
}

impl UserTransaction<Postgres> for &mut Transaction<'_> {
    async fn submit(self, provider: &dyn Transactional, submission: &Submission) -> Result<Submitted, WithinError> {
        submit(self, false, provider, submission).await
    }
}

impl<T: SqlTransaction> UserTransaction<Postgres> for By<'_, T> {
    async fn submit(self, provider: &dyn Transactional, submission: &Submission) -> Result<Submitted, WithinError> {
        submit(self.0, false, provider, submission).await
    }
}

impl<T: SqlTransaction> UserTransaction<Postgres> for Quiet<'_, T> {
    async fn submit(self, provider: &dyn Transactional, submission: &Submission) -> Result<Submitted, WithinError> {
        submit(self.0, true, provider, submission).await
    }
}
