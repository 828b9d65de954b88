//! Connections with TLS.

use std::sync::{Arc, OnceLock};

use duroxide::provider::ProviderError;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Returns a connector that trusts the certificates of the operating system. They are read once.
pub(crate) fn connector() -> Result<MakeRustlsConnect, ProviderError> {
    static CONNECTOR: OnceLock<Result<MakeRustlsConnect, String>> = OnceLock::new();
    let connector = CONNECTOR.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        // The provider is named, because a program may link several, and the default would then be ambiguous.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?;
        Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
    });
    connector.clone().map_err(|reason| ProviderError::permanent("prepare TLS", reason))
}
