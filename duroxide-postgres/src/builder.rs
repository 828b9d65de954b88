//! The methods of the runtime and the client that open a database.

use duroxide::provider::ProviderError;
use duroxide::{Client, RuntimeBuilder};

use crate::{PostgresOptions, PostgresProvider};

/// Chooses PostgreSQL as the storage of a runtime; see [`Runtime::builder`](duroxide::Runtime::builder).
///
/// ```no_run
/// use duroxide::prelude::*;
/// use duroxide_postgres::PostgresRuntime;
///
/// # async fn start() -> Result<(), duroxide::StartError> {
/// let runtime = Runtime::builder().postgres("postgres://shop:secret@db.internal/shop").start().await?;
/// # Ok(())
/// # }
/// ```
pub trait PostgresRuntime: Sized {
    /// Keeps state in the schema `duroxide` of a database, which is created if it does not exist. A failure to open it is an
    /// error of [`start`](RuntimeBuilder::start).
    #[must_use]
    fn postgres(self, url: impl Into<String>) -> Self {
        self.postgres_with(PostgresOptions::new(url))
    }

    /// Like [`postgres`](Self::postgres), with options, such as another schema.
    #[must_use]
    fn postgres_with(self, options: PostgresOptions) -> Self;
}

impl PostgresRuntime for RuntimeBuilder {
    fn postgres_with(self, options: PostgresOptions) -> Self {
        self.open_provider(async move || PostgresProvider::connect_with(options).await)
    }
}

/// Opens a client of a database without a runtime: for programs that start and wait for instances which others run.
///
/// ```no_run
/// use duroxide::prelude::*;
/// use duroxide_postgres::PostgresClient;
///
/// # async fn connect() -> Result<(), duroxide::provider::ProviderError> {
/// let client = Client::postgres("postgres://shop:secret@db.internal/shop").await?;
/// # Ok(())
/// # }
/// ```
pub trait PostgresClient: Sized {
    /// Opens the schema `duroxide` of a database.
    ///
    /// # Errors
    /// As [`PostgresProvider::connect`].
    fn postgres(url: impl Into<String> + Send) -> impl Future<Output = Result<Self, ProviderError>> + Send {
        Self::postgres_with(PostgresOptions::new(url))
    }

    /// Like [`postgres`](Self::postgres), with options.
    ///
    /// # Errors
    /// As [`PostgresProvider::connect_with`].
    fn postgres_with(options: PostgresOptions) -> impl Future<Output = Result<Self, ProviderError>> + Send;
}

impl PostgresClient for Client {
    async fn postgres_with(options: PostgresOptions) -> Result<Self, ProviderError> {
        Ok(Self::new(PostgresProvider::connect_with(options).await?))
    }
}
