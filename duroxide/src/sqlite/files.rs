//! Whether the database is still where it was opened. SQLite goes on writing to a file that was removed, moved or replaced
//! meanwhile; nobody who opens the database by its name would ever see that.

use std::path::{Path, PathBuf};

use rusqlite::ffi;

/// The database and its log, as they were when they were opened.
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

    /// Fails when one of them is not there any more.
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

/// The device and the number of the file on it.
type Identity = (u64, u64);

/// Asks for nothing but the number: whoever asks Linux for the times of a file makes the next write note a new one, and every
/// sync after that has to write the file's metadata as well.
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

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}
