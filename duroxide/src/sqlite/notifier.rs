//! Sends notices to the listeners of other processes. Owned by the writer.

use std::net::{Ipv4Addr, UdpSocket};

use super::notice::Notice;
use super::sql::Sql;

pub(super) struct Notifier {
    socket: Option<UdpSocket>,
    ports: Vec<u16>,
    /// The data version at which the ports were read, and the one at the last call of `others_wrote`.
    read: Option<i64>,
    seen: Option<i64>,
}

impl Notifier {
    pub(super) fn new(sql: &Sql) -> rusqlite::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.set_nonblocking(true).map(|()| s)).ok();
        Ok(Self { socket, ports: Vec::new(), read: None, seen: data_version(sql)? })
    }

    /// Sends a notice to all listeners except that of this provider.
    pub(super) fn notify(&mut self, sql: &Sql, own: Option<u16>, notice: &Notice) {
        let Some(socket) = &self.socket else { return };
        // The ports change only if another process writes them; our own is skipped anyway.
        let version = data_version(sql).ok().flatten();
        if self.read != version {
            let ports = sql.rows("SELECT port FROM duroxide_listeners", [], |row| row.get(0));
            let Ok(ports) = ports else { return };
            (self.ports, self.read) = (ports, version);
        }
        let others = self.ports.iter().filter(|port| Some(**port) != own);
        let mut bytes = None;
        for port in others {
            // An error means that the process has died or its buffer is full. In the second case its poll finds the change.
            let _ = socket.send_to(bytes.get_or_insert_with(|| notice.to_bytes()), (Ipv4Addr::LOCALHOST, *port));
        }
    }

    /// Returns true if another connection has written since the last call.
    pub(super) fn others_wrote(&mut self, sql: &Sql) -> bool {
        match data_version(sql) {
            Ok(version) => std::mem::replace(&mut self.seen, version) != version,
            Err(_) => false,
        }
    }
}

/// Returns a number that changes when another connection has written.
fn data_version(sql: &Sql) -> rusqlite::Result<Option<i64>> {
    sql.row("PRAGMA data_version", [], |row| row.get(0))
}
