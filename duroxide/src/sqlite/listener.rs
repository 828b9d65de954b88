//! The thread that listens for the notices of other processes on this machine.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::notice::Notice;
use super::shared::Shared;
use super::writer::{Inbox, Message};

/// The time after which the database is polled, in case a notice was lost: a process may be killed between its commit and
/// its notice. Other notices do not postpone the poll, since they may come from processes that are well.
const POLL: Duration = Duration::from_secs(5);
/// Notices that arrive within this time are merged.
const COALESCE: Duration = Duration::from_millis(1);

/// Listens for notices until it is dropped.
pub(super) struct Listener {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts a listener on a free port.
    pub(super) fn start(shared: Arc<Shared>, writer: Inbox) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(POLL))?;
        let port = socket.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("duroxide-listener".to_owned());
        let thread = thread.spawn(move || listen(&socket, &shared, &writer, &stopped))?;
        Ok(Self { port, stop, thread: Some(thread) })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let woken = socket.and_then(|socket| socket.send_to(&[], (Ipv4Addr::LOCALHOST, self.port)));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            // The thread does not panic; if it did, there is nothing to clean up.
            let _ = thread.join();
        }
    }
}

fn listen(socket: &UdpSocket, shared: &Shared, writer: &Inbox, stop: &AtomicBool) {
    let mut buffer = [0; Notice::LONGEST];
    let mut polled = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                shared.notice(&Notice::from_bytes(&buffer[..length]));
                std::thread::sleep(COALESCE);
                if let Some(notice) = drain(socket, &mut buffer) {
                    shared.notice(&notice);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // For example, a datagram that is too long. Treat it as a notice of any change.
            Err(_) => shared.notice(&Notice::from_bytes(&[])),
        }
        if polled.elapsed() >= POLL {
            polled = Instant::now();
            if shared.needs_polling() && writer.send(Message::Poll).is_err() {
                return;
            }
        }
    }
}

/// Receives the notices that have arrived in the meantime, merged into one.
fn drain(socket: &UdpSocket, buffer: &mut [u8]) -> Option<Notice> {
    socket.set_nonblocking(true).ok()?;
    let mut merged: Option<Notice> = None;
    for _ in 0..10_000 {
        let Ok(length) = socket.recv(buffer) else { break };
        let notice = Notice::from_bytes(&buffer[..length]);
        match &mut merged {
            Some(merged) => merged.merge(notice),
            None => merged = Some(notice),
        }
    }
    // If this fails, the loop spins through its timeout branch; but then the read would fail as well.
    let _ = socket.set_nonblocking(false);
    merged
}

/// Returns true if no process listens on a port of this machine.
pub(super) fn is_dead(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
