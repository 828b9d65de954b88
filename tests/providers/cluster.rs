//! The PostgreSQL server and the proxy of the tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use support::postgres::{Cluster, server};
use support::proxy::Proxy;

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

#[test]
fn proxy_holds_bytes_and_breaks_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut byte = [0];
    client.write_all(b"a").unwrap();
    server.read_exact(&mut byte).unwrap();
    proxy.stall();
    client.write_all(b"b").unwrap();
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    proxy.resume();
    server.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"b");
    proxy.drop_connections();
    assert_eq!(server.read(&mut byte).unwrap(), 0);
    assert!(matches!(client.read(&mut byte), Ok(0) | Err(_)));
}
