//! The lock file of a node. The operating system releases the lock when the process dies, however it dies. The database
//! file itself is never locked: closing it would drop SQLite's own locks.
//!
//! A process that is stopped keeps its locks, so the lock alone does not show that the node runs. With each heartbeat
//! the node also changes the length of the file. Other processes can read the length of a locked file on each operating
//! system, the change needs neither space on the disk nor a flush, and a database that another program has locked does
//! not prevent it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::id::NodeId;

/// The part of the file name between the database and the node id.
const INFIX: &str = "-node-";

/// A held lock. Dropping it releases the lock but leaves the file, which the node that takes over removes.
pub(super) struct NodeLock {
    path: PathBuf,
    /// Closing the file releases the lock.
    file: File,
}

/// The state of a node, as its lock shows it.
pub(super) enum Liveness {
    /// The process lives. The number changes with each heartbeat of the node, unless the process is stopped.
    Alive(u64),
    /// The lock was free. It is now held here, so that no other process takes over the same node.
    Dead(NodeLock),
    Unknown,
}

impl NodeLock {
    /// The number of heartbeats after which the length of the file begins again: the file stays small, and an observer
    /// checks far more often.
    const BEATS: u64 = 4096;

    /// Creates and locks the file of a node. Returns `None` if the file cannot be locked; such a node sends heartbeats
    /// instead.
    pub(super) fn hold(database: &Path, node: NodeId) -> Option<Self> {
        let path = path(database, node);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let locked = file.map_err(TryLockError::Error).and_then(|file| file.try_lock().map(|()| file));
        match locked {
            Ok(file) => Some(Self { path, file }),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "could not lock the file of the node");
                None
            }
        }
    }

    /// Checks if a node holds its lock.
    pub(super) fn probe(database: &Path, node: NodeId) -> Liveness {
        let path = path(database, node);
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return Liveness::Unknown };
        match file.try_lock() {
            Ok(()) => Liveness::Dead(Self { path, file }),
            Err(TryLockError::WouldBlock) => {
                file.metadata().map_or(Liveness::Unknown, |metadata| Liveness::Alive(metadata.len()))
            }
            Err(TryLockError::Error(_)) => Liveness::Unknown,
        }
    }

    /// Locks all lock files that are free, and returns them: their nodes died, possibly before they joined.
    pub(super) fn orphaned(database: &Path) -> Vec<(NodeId, Self)> {
        let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else { return Vec::new() };
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let nodes = files.filter_map(|file| {
            // The name of the database need not be valid UTF-8.
            let file = file.file_name();
            let rest = file.as_encoded_bytes().strip_prefix(name.as_encoded_bytes())?;
            let node = rest.strip_prefix(INFIX.as_bytes())?;
            std::str::from_utf8(node).ok()?.parse().ok().map(NodeId)
        });
        let orphaned = nodes.filter_map(|node| match Self::probe(database, node) {
            Liveness::Dead(lock) => Some((node, lock)),
            Liveness::Alive(_) | Liveness::Unknown => None,
        });
        orphaned.collect()
    }

    /// Returns true if the file still exists, so that other processes see the lock.
    pub(super) fn is_visible(&self) -> bool {
        self.path.exists()
    }

    /// Shows other processes that the node runs. Returns false if it cannot.
    pub(super) fn beat(&self) -> bool {
        let beaten = self.file.metadata().and_then(|before| self.file.set_len(before.len() % Self::BEATS + 1));
        if let Err(error) = &beaten {
            tracing::debug!(%error, path = %self.path.display(), "could not change the lock file of the node");
        }
        beaten.is_ok()
    }

    /// Returns the time of the last heartbeat of the node that held the lock: with each one it has changed the file.
    pub(super) fn beaten_at(&self) -> Option<Timestamp> {
        self.file.metadata().and_then(|file| file.modified()).ok().map(Timestamp::from)
    }

    /// Returns the time of the last heartbeat of a node, if it has a file.
    pub(super) fn last_beat(database: &Path, node: NodeId) -> Option<Timestamp> {
        std::fs::metadata(path(database, node)).and_then(|file| file.modified()).ok().map(Timestamp::from)
    }

    /// Removes the file, then releases the lock.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "could not remove the lock file of a node");
        }
    }
}

fn path(database: &Path, node: NodeId) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(format!("{INFIX}{node}"));
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_shows_a_live_node_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let (database, node) = (folder.path().join("a.db"), NodeId::new());
        assert!(matches!(NodeLock::probe(&database, node), Liveness::Unknown), "without a file, the state is unknown");
        let lock = NodeLock::hold(&database, node).unwrap();
        assert!(matches!(NodeLock::probe(&database, node), Liveness::Alive(0)));
        assert!(lock.beat());
        assert!(matches!(NodeLock::probe(&database, node), Liveness::Alive(1)));
        assert!(NodeLock::hold(&database, node).is_none(), "a lock has one holder");
        drop(lock);
        let Liveness::Dead(taken) = NodeLock::probe(&database, node) else { panic!("its owner has released it") };
        assert!(matches!(NodeLock::probe(&database, node), Liveness::Alive(_)), "only one process takes over");
        taken.remove();
        assert!(matches!(NodeLock::probe(&database, node), Liveness::Unknown));
    }
}
