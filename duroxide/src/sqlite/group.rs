//! Groups: entries that were submitted together and are written in one transaction.

use tokio::sync::oneshot;

use super::fault::{FromStorageError, Refusal};
use super::tx::Tx;

/// The transaction must be rolled back: a write must be undone, or SQLite has already rolled it back.
pub(super) struct Undo(pub(super) Option<rusqlite::Error>);

/// The reason why a whole transaction was not written.
pub(super) type Failure = std::sync::Arc<rusqlite::Error>;

/// Work for the writer.
pub(super) trait Job: Send {
    /// Returns the number of its entries.
    fn entries(&self) -> usize;

    /// Applies all entries. `careful`: the transaction is repeated, and each entry gets its own savepoint.
    fn apply(&mut self, tx: &mut Tx<'_>, careful: bool) -> Result<(), Undo>;

    /// Sends the result to the caller. Returns true if the caller still waits.
    fn answer(self: Box<Self>, committed: Result<(), Failure>) -> bool;
}

/// The results of a group, in the order of its entries; or the failure of the transaction.
pub(super) type Answer<T, X> = Result<Vec<Result<T, X>>, Failure>;

/// Entries of one kind.
pub(super) struct Group<E, T, X, F> {
    entries: Vec<E>,
    apply: F,
    results: Vec<Result<T, X>>,
    answer: oneshot::Sender<Answer<T, X>>,
}

impl<E, T, X, F> Group<E, T, X, F>
where
    E: Send + 'static,
    T: Send + 'static,
    X: FromStorageError,
    F: Fn(&mut Tx<'_>, &E) -> Result<T, Refusal<X>> + Send + 'static,
{
    pub(super) fn job(entries: Vec<E>, apply: F) -> (Box<dyn Job>, oneshot::Receiver<Answer<T, X>>) {
        let (answer, answered) = oneshot::channel();
        (Box::new(Self { results: Vec::with_capacity(entries.len()), entries, apply, answer }), answered)
    }
}

impl<E, T, X, F> Job for Group<E, T, X, F>
where
    E: Send,
    T: Send,
    X: FromStorageError,
    F: Fn(&mut Tx<'_>, &E) -> Result<T, Refusal<X>> + Send,
{
    fn entries(&self) -> usize {
        self.entries.len()
    }

    fn apply(&mut self, tx: &mut Tx<'_>, careful: bool) -> Result<(), Undo> {
        self.results.clear();
        for entry in &self.entries {
            let result = if careful {
                under_savepoint(tx, |tx| (self.apply)(tx, entry))?
            } else {
                match (self.apply)(tx, entry) {
                    Ok(done) => Ok(done),
                    Err(Refusal::Refused(refusal)) => Err(refusal),
                    Err(Refusal::Undo(_)) => return Err(Undo(None)),
                    Err(Refusal::Storage(error)) => return Err(Undo(Some(error))),
                }
            };
            self.results.push(result);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Failure>) -> bool {
        let Self { entries, results, answer, .. } = *self;
        // Release our share of the entries before answering, so the caller can unwrap its `Arc`.
        drop(entries);
        answer.send(committed.map(|()| results)).is_ok()
    }
}

/// Applies one entry under a savepoint, so that it can be undone alone.
pub(super) fn under_savepoint<T, X: FromStorageError>(
    tx: &mut Tx<'_>,
    apply: impl FnOnce(&mut Tx<'_>) -> Result<T, Refusal<X>>,
) -> Result<Result<T, X>, Undo> {
    let fatal = |error| Undo(Some(error));
    tx.sql.run("SAVEPOINT entry", []).map_err(fatal)?;
    let result = apply(tx);
    if tx.sql.connection().is_autocommit() {
        // SQLite has rolled back the whole transaction, for example because the disk is full.
        return Err(Undo(if let Err(Refusal::Storage(error)) = result { Some(error) } else { None }));
    }
    let result = match result {
        Ok(done) => Ok(done),
        Err(Refusal::Refused(refusal)) => Err(refusal),
        Err(refusal) => {
            tx.sql.run("ROLLBACK TO entry", []).map_err(fatal)?;
            // The members and the removals may have been read after a change that is undone.
            tx.members = None;
            tx.forget_removals();
            Err(match refusal {
                Refusal::Refused(refusal) | Refusal::Undo(refusal) => refusal,
                Refusal::Storage(error) => X::from_storage(error),
            })
        }
    };
    tx.sql.run("RELEASE entry", []).map_err(fatal)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::provider::SubmitError;
    use crate::sqlite::sql::OwnSql;

    #[test]
    fn refused_entry_under_a_savepoint_keeps_its_writes() {
        let folder = tempfile::tempdir().unwrap();
        let sql = OwnSql::open(&folder.path().join("state.db"), Duration::ZERO, Arc::default()).unwrap();
        sql.connection().execute_batch("CREATE TABLE t (entry TEXT); BEGIN").unwrap();
        let apply = |tx: &mut Tx<'_>, entry: &&str| {
            tx.sql.run("INSERT INTO t VALUES (?1)", [*entry])?;
            match *entry {
                "refused" => Err(Refusal::Refused(SubmitError::NotFound)),
                "undone" => Err(Refusal::Undo(SubmitError::Conflict)),
                _ => Ok(()),
            }
        };
        let (mut job, _answer) = Group::job(vec!["done", "undone", "refused"], apply);
        let mut tx = Tx::new(sql.session(), None);
        assert!(job.apply(&mut tx, false).is_err(), "an entry must be undone");
        sql.connection().execute_batch("ROLLBACK; BEGIN").unwrap();
        assert!(job.apply(&mut tx, true).is_ok());
        sql.connection().execute_batch("COMMIT").unwrap();
        let kept = sql.session().rows("SELECT entry FROM t", [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(kept, ["done", "refused"]);
    }
}
