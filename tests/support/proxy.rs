//! A TCP proxy that loses and delays connections, as a network does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Forwards connections from a port of its own to a server.
///
/// The threads end with their connections. The proxy accepts no more connections once it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes wait, and peers see a connection that is alive.
    stalled: bool,
    closed: bool,
    /// The number of connections that were accepted, and of those of them that carry nothing forever.
    accepted: usize,
    silenced: usize,
    connections: Vec<TcpStream>,
}

impl Proxy {
    /// Starts a proxy to a server.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("is bound");
        let shared = Arc::new(Shared::default());
        let accepted = shared.clone();
        std::thread::spawn(move || accepted.accept(&listener, server));
        Self { address, shared }
    }

    /// Returns the address of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections. New ones are accepted.
    pub fn drop_connections(&self) {
        self.shared.with(State::drop_connections);
    }

    /// Holds all bytes, in both directions, also of new connections.
    pub fn stall(&self) {
        self.shared.with(|state| state.stalled = true);
    }

    /// Holds all bytes of the connections that exist now, forever: as if a machine in between had forgotten them.
    pub fn silence_connections(&self) {
        self.shared.with(|state| state.silenced = state.accepted);
    }

    /// Forwards the bytes that were held, and all later ones.
    pub fn resume(&self) {
        self.shared.with(|state| state.stalled = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.closed = true;
            state.drop_connections();
        });
        // The thread that accepts notices the end with the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn drop_connections(&mut self) {
        for connection in self.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>, listener: &TcpListener, server: SocketAddr) {
        while let Ok((client, _)) = listener.accept() {
            if self.state.lock().unwrap_or_else(PoisonError::into_inner).closed {
                return;
            }
            // While the server is down, its clients see a broken connection.
            let Ok(server) = TcpStream::connect(server) else { continue };
            let handle = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
            let mut number = 0;
            self.with(|state| {
                state.connections.extend([handle(&client), handle(&server)]);
                number = state.accepted;
                state.accepted += 1;
            });
            for (from, to) in [(handle(&client), handle(&server)), (server, client)] {
                let shared = self.clone();
                std::thread::spawn(move || shared.forward(from, to, number));
            }
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream, number: usize) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            self.wait_while_stalled(number);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // The peer sees the end of this direction, and ends the other one.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    fn wait_while_stalled(&self, number: usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.changed
                .wait_while(state, |state| (state.stalled || number < state.silenced) && !state.closed)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}
