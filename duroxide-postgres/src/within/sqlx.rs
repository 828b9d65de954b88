//! Transactions of `sqlx`.

use duroxide::provider::{Submission, Submitted, Transactional, UserTransaction, WithinError};
use futures_util::future::BoxFuture;
use sqlx_core::query_scalar::query_scalar;
use sqlx_core::sql_str::AssertSqlSafe;
use sqlx_core::transaction::Transaction;
use sqlx_postgres::{PgConnection, Postgres as Sqlx};

use super::{Postgres, SqlError, SqlTransaction, SqlValue, submit};

impl SqlTransaction for PgConnection {
    fn run<'a>(
        &'a mut self,
        sql: &'a str,
        values: &'a [SqlValue<'a>],
    ) -> BoxFuture<'a, Result<Option<String>, SqlError>> {
        Box::pin(async move {
            // The text is a constant of this crate, with the name of the schema, which was checked.
            let query = query_scalar::<Sqlx, Option<String>>(AssertSqlSafe(sql.to_owned()));
            let query = values.iter().fold(query, |query, value| match value {
                SqlValue::Int(value) => query.bind(*value),
                SqlValue::Text(value) => query.bind(*value),
                SqlValue::Bytes(value) => query.bind(*value),
                SqlValue::Uuid(value) => query.bind(*value),
            });
            Ok(query.fetch_optional(self).await?.flatten())
        })
    }
}

impl From<sqlx_core::Error> for SqlError {
    fn from(error: sqlx_core::Error) -> Self {
        match error.as_database_error() {
            // Without the details, which may show values.
            Some(database) => Self::new(database.code().as_deref(), database.message()),
            None => Self::new(None, error.to_string()),
        }
    }
}

// Not for a reference to a connection, which may have no open transaction: `By` is for one that has.
impl UserTransaction<Postgres> for &mut Transaction<'_, Sqlx> {
    async fn submit(self, provider: &dyn Transactional, submission: &Submission) -> Result<Submitted, WithinError> {
        submit(&mut **self, false, provider, submission).await
    }
}
