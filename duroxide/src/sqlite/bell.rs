//! The doorbell between processes: a datagram without content to a port on this machine. It says only "look", so that one
//! that is lost costs time, and one that is forged costs a look.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::shared::Shared;
use super::sql::Sql;
use super::writer::{Inbox, Message};

/// How often to look without having been rung for: the safety net.
const POLL: Duration = Duration::from_secs(5);
/// Rings within this time are one.
const COALESCE: Duration = Duration::from_millis(1);

/// Listens.
pub(super) struct Bell {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bell {
    /// Starts to listen on a port of its own.
    pub(super) fn listen(shared: Arc<Shared>, writer: Inbox) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(POLL))?;
        let port = socket.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("duroxide-bell".to_owned());
        let thread = thread.spawn(move || answer(&socket, &shared, &writer, &stopped))?;
        Ok(Self { port, stop, thread: Some(thread) })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let rung =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.send_to(&[], (Ipv4Addr::LOCALHOST, self.port)));
        if let (Ok(_), Some(thread)) = (rung, self.thread.take()) {
            // It has nothing to panic about; and if it did, there is nothing to clean up.
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, shared: &Shared, writer: &Inbox, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.is_curious() && writer.send(Message::Poll).is_err() {
                    return;
                }
            }
            // Whatever came, and however wrong it is: someone rang.
            _ => {
                shared.signal_all();
                std::thread::sleep(COALESCE);
                drain(socket);
            }
        }
    }
}

/// Drops the rings that came meanwhile, and rings once for all of them.
fn drain(socket: &UdpSocket) {
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    let mut more = 0;
    while more < 10_000 && socket.recv(&mut [0]).is_ok() {
        more += 1;
    }
    // If this fails, the thread spins through the timeout branch; the read itself would fail as well then.
    let _ = socket.set_nonblocking(false);
    if more > 0 {
        let own = socket.local_addr().and_then(|own| socket.send_to(&[], own));
        if let Err(error) = own {
            tracing::debug!(%error, "the doorbell could not be rung again");
        }
    }
}

/// Rings the others. Belongs to the writer.
pub(super) struct Ringer {
    socket: Option<UdpSocket>,
    ports: Vec<u16>,
    /// The version of the data when the ports were read, and when it was last looked at.
    read: Option<i64>,
    seen: Option<i64>,
}

impl Ringer {
    pub(super) fn new(sql: &Sql) -> rusqlite::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.set_nonblocking(true).map(|()| s)).ok();
        Ok(Self { socket, ports: Vec::new(), read: None, seen: data_version(sql)? })
    }

    /// Rings everybody but this provider.
    pub(super) fn ring(&mut self, sql: &Sql, own: Option<u16>) {
        let Some(socket) = &self.socket else { return };
        // Ports change when another process writes them; this one's own is left out anyway.
        let version = data_version(sql).ok().flatten();
        if self.read != version {
            let ports = sql.rows("SELECT port FROM duroxide_bells", [], |row| row.get(0));
            let Ok(ports) = ports else { return };
            (self.ports, self.read) = (ports, version);
        }
        for port in self.ports.iter().filter(|port| Some(**port) != own) {
            // Nobody there, or a full buffer: the poll is the safety net.
            let _ = socket.send_to(&[], (Ipv4Addr::LOCALHOST, *port));
        }
    }

    /// Whether another connection has written since the last call.
    pub(super) fn others_wrote(&mut self, sql: &Sql) -> bool {
        match data_version(sql) {
            Ok(version) => std::mem::replace(&mut self.seen, version) != version,
            Err(_) => false,
        }
    }
}

/// Changes when another connection has written.
fn data_version(sql: &Sql) -> rusqlite::Result<Option<i64>> {
    sql.row("PRAGMA data_version", [], |row| row.get(0))
}

/// Whether nobody listens on a port of this machine any more.
pub(super) fn is_dead(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
