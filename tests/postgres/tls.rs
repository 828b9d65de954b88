//! Connections with TLS: the certificate of the server is verified, and its name.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use duroxide::prelude::*;
use duroxide_postgres::{PostgresOptions, PostgresRuntime};
use support::postgres::{Cluster, unprivileged};

/// The URL of a child process.
const CHILD: &str = "DUROXIDE_TEST_TLS_URL";

/// A folder with two authorities, and the certificate of a server that the first one has signed.
struct Certificates(tempfile::TempDir);

impl Certificates {
    /// Returns `None` if OpenSSL is not installed.
    fn make() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("duroxide-tls-").tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
        let certificates = Self(folder);
        for authority in ["ca", "stranger"] {
            let subject = format!("/CN={authority}");
            let files = ["-keyout", &format!("{authority}.key"), "-out", &format!("{authority}.pem")];
            let (request, days) = (["req", "-x509", "-newkey", "rsa:2048", "-nodes"], ["-days", "2"]);
            certificates.openssl(&[&request[..], &["-subj", &subject], &files, &days].concat())?;
        }
        let names = "subjectAltName=IP:127.0.0.1";
        let request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server", "-addext", names];
        certificates.openssl(&[&request[..], &["-keyout", "server.key", "-out", "server.csr"]].concat())?;
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        certificates
            .openssl(&[&sign[..], &["-copy_extensions", "copy", "-days", "2", "-out", "server.pem"]].concat())?;
        let key = certificates.file("server.key");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("it is ours");
        if let Some((user, group)) = unprivileged(&key) {
            chown(&key, Some(user), Some(group)).expect("this process is root");
        }
        Some(certificates)
    }

    fn openssl(&self, words: &[&str]) -> Option<()> {
        let output = Command::new("openssl").args(words).current_dir(self.0.path()).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The entry point of a child process: starts a node, prints the result, and runs until its input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process() {
    let Ok(url) = std::env::var(CHILD) else { return };
    match Runtime::builder().state(super::pool()).postgres_with(PostgresOptions::new(url)).start().await {
        Ok(runtime) => {
            eprintln!("it has started");
            let _ = std::io::stdin().read(&mut [0]);
            runtime.shutdown().await.expect("shutdown");
        }
        Err(error) => eprintln!("{error}; may pass: {}", error.is_retryable()),
    }
}

/// Starts a node in a process that trusts this authority. Returns its first words, and the numbers of its connections with
/// TLS and without.
async fn start(cluster: &Cluster, url: &str, authority: &Path) -> (String, [i64; 2]) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "tls::child_process", "--nocapture"])
        .env(CHILD, url)
        .env("SSL_CERT_FILE", authority)
        .env_remove("SSL_CERT_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut errors = std::io::BufReader::new(child.stderr.take().expect("is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut errors, &mut line).expect("read");
    let (client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    let count = "SELECT count(*) FILTER (WHERE s.ssl), count(*) FILTER (WHERE NOT s.ssl)
        FROM pg_stat_ssl s JOIN pg_stat_activity a ON a.pid = s.pid WHERE a.application_name LIKE 'duroxide%'";
    let row = client.query_one(count, &[]).await.expect("query");
    let connections = [row.get(0), row.get(1)];
    drop(child.stdin.take());
    child.wait().expect("wait");
    (line, connections)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_the_server_is_verified() {
    let Some(certificates) = Certificates::make() else { return };
    let path = |name: &str| format!("'{}'", certificates.file(name).display());
    let (certificate, key) = (path("server.pem"), path("server.key"));
    let settings = [("ssl", "on"), ("ssl_cert_file", certificate.as_str()), ("ssl_key_file", key.as_str())];
    let Some(cluster) = Cluster::start(&settings) else { return };
    let url = |words: &str| format!("{}?{words}", cluster.url());
    for words in ["sslmode=require", "sslmode=verify-full"] {
        let (line, [with_tls, without]) = start(&cluster, &url(words), &certificates.file("ca.pem")).await;
        assert!(line.contains("it has started"), "{line}");
        // Some are opened later.
        assert!(with_tls > 0 && without == 0, "{words}: {with_tls} connections with TLS, {without} without");
    }
    let wrong_name = url("sslmode=require").replace("127.0.0.1", "localhost");
    for (url, authority, reason) in
        [(url("sslmode=require"), "stranger.pem", "UnknownIssuer"), (wrong_name, "ca.pem", "not valid for name")]
    {
        let (line, connections) = start(&cluster, &url, &certificates.file(authority)).await;
        assert!(line.contains("DUR0100") && line.contains(reason) && line.contains("may pass: false"), "{line}");
        assert_eq!(connections, [0, 0]);
    }
}
