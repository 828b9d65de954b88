//! A process dies, or the power fails, between any two statements of any write: one check for each moment of the script.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use duroxide::sqlite::{Durability, Moment, SqliteOptions, SqliteProvider};

use crate::script::{Leases, Op, Script, contents};
use crate::store::Store;

/// The content of the disk at one moment.
struct Point {
    step: usize,
    /// The statement before or after which the copy was made.
    place: String,
    /// True if the step was durable. `None` at a checkpoint, which may happen at any time, also while another process
    /// writes.
    committed: Option<bool>,
    folder: PathBuf,
}

/// The moments of the current step that the observer has seen.
#[derive(Default)]
struct Watch {
    step: usize,
    committed: bool,
    points: Vec<Point>,
}

/// The contents after each step, and at each moment in between.
struct Recording {
    script: Script,
    /// The contents before the first step, and after each.
    states: Vec<String>,
    leases: Vec<Leases>,
    points: Vec<Point>,
    // Holds the folders of the points until the end of the test.
    _copies: tempfile::TempDir,
}

/// Copies the remains of a database in WAL mode after a crash or a power cut: the file and its log.
fn copy(database: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for ending in ["", "-wal"] {
        let from = format!("{}{ending}", database.display());
        if std::fs::exists(&from).expect("look") {
            std::fs::copy(&from, to.join(format!("store.db{ending}"))).expect("copy");
        }
    }
}

async fn record(script: Script) -> Recording {
    let store = Store::new();
    let copies = tempfile::tempdir().expect("folder");
    let watch = Arc::new(Mutex::new(Watch::default()));
    let (database, folder, watched) = (store.path().to_owned(), copies.path().to_owned(), watch.clone());
    let observer = move |moment: Moment<'_>| {
        let mut watch = watched.lock().expect("watch");
        let place = match moment {
            Moment::Before(statement) => format!("before {statement}"),
            Moment::After("COMMIT", _) => {
                watch.committed = true;
                "after COMMIT".to_owned()
            }
            _ => return,
        };
        let folder = folder.join(watch.points.len().to_string());
        copy(&database, &folder);
        let committed = (!place.contains("wal_checkpoint")).then_some(watch.committed);
        let step = watch.step;
        watch.points.push(Point { step, place, committed, folder });
    };
    let provider = store.open_with(SqliteOptions::new().observer(observer));
    let mut leases = Leases::default();
    let mut recording = (vec![contents(&store.raw())], vec![leases]);
    for step in 0..script.steps.len() {
        {
            let mut watch = watch.lock().expect("watch");
            (watch.step, watch.committed) = (step, false);
        }
        script.run(step, &provider, &mut leases).await;
        recording.0.push(contents(&store.raw()));
        recording.1.push(leases);
    }
    drop(provider);
    let points = std::mem::take(&mut watch.lock().expect("watch").points);
    // Another process writes several times in its step, and this one may make a checkpoint in between.
    let is_between = |point: &Point| {
        point.committed.is_none() && script.steps.get(point.step).is_some_and(|step| matches!(step.op, Op::JoinAndDie))
    };
    let points = points.into_iter().filter(|point| point.step < script.steps.len() && !is_between(point)).collect();
    let (states, leases) = recording;
    Recording { script, states, leases, points, _copies: copies }
}

impl Recording {
    /// Checks that the database has the state before the step or, once the step was committed, the state after it. Then
    /// repeats the step and runs the following ones, which must lead to the expected end.
    async fn check(&self, point: &Point) {
        let Point { step, place, committed, folder } = point;
        let name = self.script.steps[*step].name;
        let states = committed.map_or(*step..=step + 1, |committed| {
            let at = step + usize::from(committed);
            at..=at
        });
        let database = folder.join("store.db");
        {
            let raw = rusqlite::Connection::open(&database).expect("open");
            let check: String = raw.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
            assert_eq!(check, "ok", "{name}: {place}");
            let found = contents(&raw);
            assert!(self.states[states].contains(&found), "{name}: {place}: {found}");
        }
        std::fs::write(format!("{}-node-{}", database.display(), self.script.doomed()), "")
            .expect("a lock file without a process");
        let options = SqliteOptions::new().durability(Durability::Relaxed);
        let provider = SqliteProvider::open_with(&database, options).expect("open");
        let mut leases = self.leases[*step];
        for again in *step..self.script.steps.len() {
            self.script.run(again, &provider, &mut leases).await;
        }
        drop(provider);
        let end = contents(&rusqlite::Connection::open(&database).expect("open"));
        assert_eq!(Some(&end), self.states.last(), "{name}: {place}");
        std::fs::remove_dir_all(folder).expect("remove");
    }
}

#[tokio::test]
async fn a_crash_between_any_two_statements_leaves_all_or_nothing() {
    let recording = record(Script::new()).await;
    for (step, pair) in recording.script.steps.iter().zip(recording.states.windows(2)) {
        assert_ne!(pair[0], pair[1], "the step has an effect: {}", step.name);
    }
    println!("{} moments of {} steps", recording.points.len(), recording.script.steps.len());
    assert!(recording.points.len() > 200, "{}", recording.points.len());
    for point in &recording.points {
        recording.check(point).await;
    }
}
