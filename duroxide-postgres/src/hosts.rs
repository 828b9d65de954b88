//! The hosts that a URL names: one of them accepts writes.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duroxide::provider::ProviderError;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};

/// The time limits of the network: a connection whose server is gone must end before the lease of a node does.
const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(10);

/// The hosts of a URL. The driver would wait without a limit for one that accepts a connection and is silent, so the caller
/// connects to each of them alone.
#[derive(Clone)]
pub(crate) struct Hosts {
    config: Config,
    count: usize,
    /// The host that is tried first: the one that accepted writes last.
    first: Arc<AtomicUsize>,
}

impl Hosts {
    pub(crate) fn of(url: &str) -> Result<Self, ProviderError> {
        let config = config_of(url)?;
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        let fits = |len: usize| len <= 1 || len == count;
        let (named, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
        if count == 0 || !fits(config.get_ports().len()) || (named.min(addresses) > 0 && named != addresses) {
            let reason = "it needs a host, and as many ports and addresses as hosts";
            return Err(ProviderError::permanent("read the URL of the database", reason));
        }
        let is_random = config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        // Each state has keys of its own, from a random origin.
        let random = if is_random { RandomState::new().hash_one(0) } else { 0 };
        let first = usize::try_from(random % u64::try_from(count).unwrap_or(u64::MAX)).unwrap_or(0);
        Ok(Self { config, count, first: Arc::new(AtomicUsize::new(first)) })
    }

    /// Returns the settings of a connection to each host alone, in the order in which they are tried.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = (usize, Config)> {
        let first = self.first.load(Ordering::Relaxed);
        (0..self.count).map(move |n| (first + n) % self.count).map(|host| (host, self.alone(host)))
    }

    /// This host has accepted a connection for writes.
    pub(crate) fn begin_with(&self, host: usize) {
        self.first.store(host, Ordering::Relaxed);
    }

    /// Returns the settings with one host.
    fn alone(&self, host: usize) -> Config {
        let Self { config: all, count, .. } = self;
        if *count == 1 {
            return all.clone();
        }
        let mut config = Config::new();
        match all.get_hosts().get(host) {
            Some(Host::Tcp(name)) => drop(config.host(name)),
            #[cfg(unix)]
            Some(Host::Unix(path)) => drop(config.host_path(path)),
            None => {}
        }
        if let Some(address) = all.get_hostaddrs().get(host) {
            config.hostaddr(*address);
        }
        if let Some(port) = all.get_ports().get(host).or_else(|| all.get_ports().first()) {
            config.port(*port);
        }
        if let Some(user) = all.get_user() {
            config.user(user);
        }
        if let Some(password) = all.get_password() {
            config.password(password);
        }
        if let Some(database) = all.get_dbname() {
            config.dbname(database);
        }
        if let Some(options) = all.get_options() {
            config.options(options);
        }
        config.ssl_mode(all.get_ssl_mode()).ssl_negotiation(all.get_ssl_negotiation());
        config.channel_binding(all.get_channel_binding());
        limit(&mut config, (all.get_connect_timeout().copied(), all.get_tcp_user_timeout().copied()));
        config
    }
}

fn config_of(url: &str) -> Result<Config, ProviderError> {
    let mut config: Config = with_known_mode(url)
        .parse()
        .map_err(|error| ProviderError::permanent("read the URL of the database", error))?;
    let limits = (config.get_connect_timeout().copied(), config.get_tcp_user_timeout().copied());
    limit(&mut config, limits);
    Ok(config)
}

/// Sets the limits of the network, where the URL has none.
fn limit(config: &mut Config, (connect, silence): (Option<Duration>, Option<Duration>)) {
    config.connect_timeout(connect.unwrap_or(CONNECT)).tcp_user_timeout(silence.unwrap_or(SILENCE));
    config.keepalives(true).keepalives_idle(Duration::from_secs(5)).keepalives_interval(Duration::from_secs(2));
    config.keepalives_retries(3);
    // A standby would refuse the first write.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
}

/// Replaces the modes of TLS by which libpq verifies a certificate: the driver does not know their words, and every
/// certificate is verified here, with its name.
fn with_known_mode(url: &str) -> String {
    let mut known = String::with_capacity(url.len());
    // Parameters follow `?` or `&` in a URL, and a blank in the form of libpq.
    for part in url.split_inclusive(['?', '&', ' ']) {
        let parameter = part.trim_end_matches(['?', '&', ' ']);
        if matches!(parameter, "sslmode=verify-full" | "sslmode=verify-ca") {
            known.push_str("sslmode=require");
            known.push_str(&part[parameter.len()..]);
        } else {
            known.push_str(part);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn each_host_has_the_settings_of_the_url() {
        let hosts = Hosts::of("postgres://u:p@a:1,b:2/db?sslmode=require&options=-c%20a%3Db&connect_timeout=3");
        let hosts = hosts.expect("it can be read");
        for (first, expected) in [(0, ["a", "b"]), (1, ["b", "a"])] {
            hosts.begin_with(first);
            for ((_, config), name) in hosts.in_turn().zip(expected) {
                assert_eq!(config.get_hosts(), [Host::Tcp(name.to_owned())]);
                assert_eq!(config.get_ports(), [if name == "a" { 1 } else { 2 }]);
                assert_eq!((config.get_user(), config.get_password()), (Some("u"), Some(&b"p"[..])));
                assert_eq!((config.get_dbname(), config.get_options()), (Some("db"), Some("-c a=b")));
                assert_eq!(config.get_ssl_mode(), SslMode::Require);
                assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
                assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
                assert_eq!(config.get_tcp_user_timeout(), Some(&SILENCE));
            }
        }
        assert!(Hosts::of("host=a,b,c port=1,2 user=u").is_err());
    }

    #[test]
    fn verifying_modes_of_tls_are_known() {
        for url in [
            "postgres://u:p@h/db?sslmode=verify-full",
            "postgres://h/db?connect_timeout=3&sslmode=verify-ca&application_name=a",
            "host=h sslmode=verify-full user=u",
        ] {
            assert_eq!(config_of(url).expect("it can be read").get_ssl_mode(), SslMode::Require, "{url}");
        }
        let password = config_of("host=h password='a sslmode=verify-fully'").expect("it can be read");
        assert_eq!(password.get_password(), Some(&b"a sslmode=verify-fully"[..]));
        assert!(config_of("postgres://h/db?sslmode=sometimes").is_err());
    }
}
