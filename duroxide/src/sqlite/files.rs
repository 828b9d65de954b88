//! Detects that the database file was removed, moved or replaced while it was in use. SQLite keeps writing to the old
//! file, and no process that opens the database by its name would ever see those writes.

use std::path::{Path, PathBuf};

use rusqlite::ffi;

/// The database and its log, with the identities that they had when they were opened.
pub(super) struct Files {
    files: [Opened; 2],
}

struct Opened {
    path: PathBuf,
    identity: Option<Identity>,
}

impl Files {
    pub(super) fn opened(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        Self { files: [database.to_owned(), log.into()].map(|path| Opened { identity: identity(&path), path }) }
    }

    /// Fails if one of the files is no longer at its path.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        for Opened { path, identity: opened } in &self.files {
            if opened.is_some() && identity(path) != *opened {
                let reason = format!("{} was removed, moved or replaced while it was in use", path.display());
                return Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED),
                    Some(reason),
                ));
            }
        }
        Ok(())
    }
}

/// The device, and the inode number on that device.
type Identity = (u64, u64);

/// Requests only the inode number. On Linux, a request for the times of a file makes the next write record a new one,
/// and then every sync must also write the file's metadata.
#[cfg(target_os = "linux")]
fn identity(path: &Path) -> Option<Identity> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
    match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(file) => Some((makedev(file.stx_dev_major, file.stx_dev_minor), file.stx_ino)),
        Err(rustix::io::Errno::NOSYS) => metadata(path),
        Err(_) => None,
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn identity(path: &Path) -> Option<Identity> {
    metadata(path)
}

#[cfg(unix)]
fn metadata(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// On other systems, an open file cannot be removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}
