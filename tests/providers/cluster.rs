//! The PostgreSQL server of the tests.

use std::net::TcpStream;

use support::postgres::{Cluster, server};

#[test]
fn server_survives_a_crash_and_ends_with_its_cluster() {
    if server().is_none() {
        return;
    }
    let Some(cluster) = Cluster::start(&[]) else { return };
    let accepts = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
    let port = cluster.port();
    cluster.restart();
    assert!(accepts(port));
    cluster.crash();
    assert!(!accepts(port));
    cluster.resume();
    assert!(accepts(port));
    drop(cluster);
    assert!(!accepts(port));
}
