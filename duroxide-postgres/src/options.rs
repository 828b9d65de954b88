//! The options of a provider.

use std::time::Duration;

use duroxide::provider::ProviderError;

/// The longest name of a schema, in bytes: that of PostgreSQL, less room for derived names.
const MAX_SCHEMA: usize = 48;

/// The options of a [`PostgresProvider`](super::PostgresProvider).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The database: `postgres://user:password@host:port/database`, or `host=.. user=..` with the words of libpq.
    pub url: String,
    /// The schema that holds the tables; it is created if it does not exist. Letters `a` to `z`, digits and `_`, at most 48
    /// bytes, no digit first. Several programs share their state if they name the same schema. Default: `duroxide`.
    pub schema: String,
    /// The time for which a request waits for a database that cannot be reached, before it fails with a retryable error.
    /// Default: 30 s.
    pub patience: Duration,
    /// A URL for the connection that listens to notifications, if `url` leads through a pooler that does not keep the
    /// session of a client: a direct way to the same database. Default: `None`, which stands for `url`.
    pub listen_url: Option<String>,
    /// True if `url` leads through a pooler in transaction mode. Default: false. A pooler is found at the start, unless it
    /// keeps the session of a client for as long as no other client needs it.
    pub is_pooled: bool,
}

/// The URLs may hold a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url: _, schema, patience, listen_url: _, is_pooled } = self;
        let mut shown = f.debug_struct("PostgresOptions");
        shown.field("schema", schema).field("patience", patience).field("is_pooled", is_pooled).finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// Returns the default options for a database.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "duroxide".to_owned(),
            patience: Duration::from_secs(30),
            listen_url: None,
            is_pooled: false,
        }
    }

    /// Sets the schema that holds the tables.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets the time for which a request waits for a database that cannot be reached.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets a direct way to the database for the connection that listens to notifications.
    ///
    /// ```
    /// use duroxide_postgres::PostgresOptions;
    ///
    /// let options = PostgresOptions::new("postgres://app@pooler:6432/shop").listen_url("postgres://app@db:5432/shop");
    /// ```
    #[must_use]
    pub fn listen_url(mut self, url: impl Into<String>) -> Self {
        self.listen_url = Some(url.into());
        self
    }

    /// States that `url` leads through a pooler in transaction mode, so that the start need not find it.
    ///
    /// ```
    /// use duroxide_postgres::PostgresOptions;
    ///
    /// let options = PostgresOptions::new("postgres://app@pooler:6432/shop").pooled();
    /// assert!(options.is_pooled);
    /// ```
    #[must_use]
    pub fn pooled(mut self) -> Self {
        self.is_pooled = true;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ProviderError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let name = self.schema.as_bytes();
        let is_good = name.len() <= MAX_SCHEMA
            && name.iter().all(|byte| fits(*byte))
            && name.first().is_some_and(|first| !first.is_ascii_digit());
        if is_good {
            return Ok(());
        }
        let reason = format!(
            "the schema {:?} must have 1 to {MAX_SCHEMA} characters: a to z, digits and `_`, no digit first",
            self.schema
        );
        Err(ProviderError::permanent("open the database", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_is_an_identifier() {
        let check = |schema: &str| PostgresOptions::new("").schema(schema).check().is_ok();
        assert!(check("duroxide") && check("_1") && check(&"a".repeat(MAX_SCHEMA)));
        for bad in ["", "1a", "Duroxide", "a b", "a\"b", "a;b", "é", &"a".repeat(MAX_SCHEMA + 1)] {
            assert!(!check(bad), "{bad:?}");
        }
    }

    #[test]
    fn debug_text_hides_the_password() {
        let options = PostgresOptions::new("postgres://u:secret@host/db").listen_url("postgres://u:secret@direct/db");
        assert!(!format!("{options:?}").contains("secret"));
    }
}
