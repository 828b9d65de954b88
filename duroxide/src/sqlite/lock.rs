//! The file that a node locks for as long as it lives: the operating system lets go of it when the process dies, however
//! it dies. Never the database file itself: closing that would drop SQLite's own locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::id::NodeId;

/// Between the name of the database and the id of the node.
const INFIX: &str = "-node-";

/// A lock that is held. Dropping it lets go, and leaves the file to whoever takes over.
pub(super) struct NodeLock {
    path: PathBuf,
    // Held, not read: closing it lets go of the lock.
    _file: File,
}

/// What the lock of a node tells.
pub(super) enum Life {
    Alive,
    /// Nobody held it. It is held now, so that nobody else takes the same node over.
    Dead(NodeLock),
    Unknown,
}

impl NodeLock {
    /// Creates and locks the file of a node. `None` where that is not possible: the node shows its life in another way.
    pub(super) fn hold(database: &Path, node: NodeId) -> Option<Self> {
        let path = path(database, node);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let locked = file.map_err(TryLockError::Error).and_then(|file| file.try_lock().map(|()| file));
        match locked {
            Ok(file) => Some(Self { path, _file: file }),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "the node cannot lock its file");
                None
            }
        }
    }

    /// Looks whether a node holds its lock.
    pub(super) fn look(database: &Path, node: NodeId) -> Life {
        let path = path(database, node);
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return Life::Unknown };
        match file.try_lock() {
            Ok(()) => Life::Dead(Self { path, _file: file }),
            Err(TryLockError::WouldBlock) => Life::Alive,
            Err(TryLockError::Error(_)) => Life::Unknown,
        }
    }

    /// The files that nobody holds: of nodes that have died, or have died before they joined. They are held now.
    pub(super) fn abandoned(database: &Path) -> Vec<(NodeId, Self)> {
        let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else { return Vec::new() };
        let prefix = format!("{}{INFIX}", name.to_string_lossy());
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let nodes = files.filter_map(|file| {
            let name = file.file_name();
            name.to_str()?.strip_prefix(&prefix)?.parse().ok().map(NodeId)
        });
        let abandoned = nodes.filter_map(|node| match Self::look(database, node) {
            Life::Dead(lock) => Some((node, lock)),
            Life::Alive | Life::Unknown => None,
        });
        abandoned.collect()
    }

    /// Whether others can see the file.
    pub(super) fn is_visible(&self) -> bool {
        self.path.exists()
    }

    /// Removes the file, then lets go.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the file of a node that is gone stays behind");
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
    fn a_lock_shows_life_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let (database, node) = (folder.path().join("a.db"), NodeId::new());
        assert!(matches!(NodeLock::look(&database, node), Life::Unknown), "no file: nothing is known");
        let lock = NodeLock::hold(&database, node).unwrap();
        assert!(matches!(NodeLock::look(&database, node), Life::Alive));
        assert!(NodeLock::hold(&database, node).is_none(), "one holder");
        drop(lock);
        let Life::Dead(taken) = NodeLock::look(&database, node) else { panic!("its owner has let go") };
        assert!(matches!(NodeLock::look(&database, node), Life::Alive), "one heir");
        taken.remove();
        assert!(matches!(NodeLock::look(&database, node), Life::Unknown));
    }
}
