//! A power cut during a write: the log is cut off at any place, or its last page is garbage. Writes that were synced before
//! are there, and no others.

use std::path::{Path, PathBuf};

use duroxide::sqlite::{Durability, SqliteOptions, SqliteProvider};

use crate::script::{Leases, Script, contents};
use crate::store::Store;

/// The parts of a log file: its head, and the head and the page of each frame.
const HEAD: usize = 32;
const FRAME: usize = 24 + 4096;

/// A log that holds all of the script, and the contents at each length.
struct Recording {
    script: Script,
    database: Vec<u8>,
    log: Vec<u8>,
    /// For the moment when the database had been opened, and for the end of each step: the length of the log, the contents,
    /// and the leases.
    moments: Vec<(usize, String, Leases)>,
    /// The step in which another process wrote, several times.
    several: usize,
}

fn log(database: &Path) -> PathBuf {
    format!("{}-wal", database.display()).into()
}

async fn record() -> (Recording, usize) {
    let store = Store::new();
    // A reader of an old state keeps the log from beginning anew; the database file holds that state.
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
    /// Lays down the database with a log, and looks at it.
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

    /// The last moment whose log is no longer than that.
    fn moment(&self, length: usize) -> usize {
        self.moments.iter().rposition(|(at, ..)| *at <= length).unwrap_or(0)
    }

    /// Continues the script from a moment, and comes to its end.
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
                assert_eq!(seen, recording.moments[moment].1, "{cut} bytes of the log are left");
            }
            cuts += 1;
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 300, "{cuts}");
}

#[tokio::test]
async fn garbage_at_the_end_of_the_log_costs_no_acknowledged_write() {
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
