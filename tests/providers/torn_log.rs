//! A power cut during a write: the log is cut off at any place, or its last page is garbage. The database then holds the
//! writes that were synced before, and no others.

use std::path::{Path, PathBuf};

use duroxide::sqlite::{Durability, SqliteOptions, SqliteProvider};

use crate::script::{Leases, Script, contents};
use crate::store::Store;

/// The parts of a log file: its head, and the head and the page of each frame.
const HEAD: usize = 32;
const FRAME: usize = 24 + 4096;

/// A log of the whole script, and the contents of the database at each length of the log.
struct Recording {
    script: Script,
    database: Vec<u8>,
    log: Vec<u8>,
    /// The length of the log, the contents and the leases: after the database was opened, and after each step.
    moments: Vec<(usize, String, Leases)>,
    /// The moment after the step in which another process wrote several times: its commits in between are not recorded.
    several: usize,
}

fn log(database: &Path) -> PathBuf {
    format!("{}-wal", database.display()).into()
}

async fn record() -> (Recording, usize) {
    let store = Store::new();
    // As long as a reader uses an old state, SQLite does not move the log into the database file and reuse it.
    let reader = store.raw();
    reader.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (id TEXT)").expect("create");
    reader.execute_batch("BEGIN; SELECT * FROM orders").expect("read");
    let length = || usize::try_from(std::fs::metadata(log(store.path())).expect("log").len()).expect("small");
    let first = length();
    let script = Script::new();
    let provider = store.open();
    let mut leases = Leases::default();
    let mut moments = vec![(length(), contents(&store.raw()), leases)];
    for step in 0..script.steps.len() {
        script.run(step, &provider, &mut leases).await;
        moments.push((length(), contents(&store.raw()), leases));
    }
    let several = script.steps.iter().position(|step| step.name.contains("dies")).expect("the step") + 1;
    let (database, log) = (std::fs::read(store.path()).expect("read"), std::fs::read(log(store.path())).expect("read"));
    assert_eq!((log.len() - HEAD) % FRAME, 0, "whole frames");
    (Recording { script, database, log, moments, several }, first)
}

impl Recording {
    /// Writes the database and a log to the folder, and opens them. Returns the contents, too.
    fn left_with(&self, folder: &Path, log_file: &[u8]) -> (PathBuf, SqliteProvider, String) {
        let database = folder.join("store.db");
        std::fs::write(&database, &self.database).expect("write");
        std::fs::write(log(&database), log_file).expect("write");
        let options = SqliteOptions::new().durability(Durability::Relaxed);
        let provider = SqliteProvider::open_with(&database, options).expect("open");
        let raw = rusqlite::Connection::open(&database).expect("open");
        let check: String = raw.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
        assert_eq!(check, "ok");
        let seen = contents(&raw);
        (database, provider, seen)
    }

    /// Returns the last moment whose log is not longer than this.
    fn moment(&self, length: usize) -> usize {
        self.moments.iter().rposition(|(at, ..)| *at <= length).unwrap_or(0)
    }

    /// Continues the script from a moment, which must lead to the expected end.
    async fn continues(&self, moment: usize, database: &Path, provider: SqliteProvider) {
        std::fs::write(format!("{}-node-{}", database.display(), self.script.doomed()), "")
            .expect("a lock file without a process");
        let mut leases = self.moments[moment].2;
        for step in moment..self.script.steps.len() {
            self.script.run(step, &provider, &mut leases).await;
        }
        drop(provider);
        let end = contents(&rusqlite::Connection::open(database).expect("open"));
        assert_eq!(
            Some(&end),
            self.moments.last().map(|(_, seen, _)| seen),
            "after {}",
            self.script.steps[moment].name
        );
    }
}

#[tokio::test]
async fn a_log_that_is_cut_off_is_read_up_to_the_last_commit() {
    let (recording, first) = record().await;
    let mut cuts = 0;
    for (frame, boundary) in (first..=recording.log.len()).step_by(FRAME).enumerate() {
        // At the end of a frame, and somewhere within the next.
        for cut in [boundary, boundary + 1 + frame * 977 % (FRAME - 1)] {
            let folder = tempfile::tempdir().expect("folder");
            let kept = &recording.log[..cut.min(recording.log.len())];
            let (_, _provider, seen) = recording.left_with(folder.path(), kept);
            let moment = recording.moment(kept.len());
            if moment + 1 != recording.several {
                assert_eq!(seen, recording.moments[moment].1, "the first {cut} bytes of the log");
            }
            cuts += 1;
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 300, "{cuts}");
}

#[tokio::test]
async fn garbage_at_the_end_of_the_log_loses_no_acknowledged_write() {
    let (recording, _) = record().await;
    for (moment, pair) in recording.moments.windows(2).enumerate() {
        let [(before, ..), (after, ..)] = pair else { unreachable!("pairs") };
        if moment + 1 == recording.several {
            continue;
        }
        for place in [before + 24, after - FRAME, after - FRAME + 24, after - 1] {
            let folder = tempfile::tempdir().expect("folder");
            let mut garbled = recording.log[..*after].to_vec();
            garbled[place] ^= 0x55;
            let (database, provider, seen) = recording.left_with(folder.path(), &garbled);
            assert_eq!(seen, recording.moments[moment].1, "byte {place} is garbled");
            recording.continues(moment, &database, provider).await;
        }
    }
}
