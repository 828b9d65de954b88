//! The rows of live instances that a connection has found, so that a turn finds its row without a search by the id.

use std::cell::RefCell;

use crate::hash::HashMap;
use crate::id::Identity;

/// The numbers of rows, by the identity of the instance. They are hints: an undone transaction, or another process, may have
/// given the number to another row, so that the statement that uses a number compares the id and the identity. It compares
/// both, because an imported copy may have another id and the same identity.
#[derive(Default)]
pub(super) struct KnownRows(RefCell<HashMap<Identity, i64>>);

impl KnownRows {
    /// The most rows that are kept: a few times the live instances of a node.
    const LIMIT: usize = 16_384;

    pub(super) fn get(&self, identity: Identity) -> Option<i64> {
        self.0.borrow().get(&identity).copied()
    }

    pub(super) fn keep(&self, identity: Identity, seq: i64) {
        let mut rows = self.0.borrow_mut();
        if rows.len() >= Self::LIMIT && !rows.contains_key(&identity) {
            rows.clear();
        }
        rows.insert(identity, seq);
    }

    pub(super) fn forget(&self, identity: Identity) {
        self.0.borrow_mut().remove(&identity);
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::Timestamp;
    use crate::id::{CommitId, EventId, InstanceId};
    use crate::provider::{MessageRow, NewInstance, Turn};
    use crate::sqlite::instances;
    use crate::sqlite::schema;
    use crate::sqlite::sql::OwnSql;
    use crate::sqlite::turns::turn;
    use crate::sqlite::tx::Tx;

    const NOW: Timestamp = Timestamp::from_micros(0);

    fn transact(sql: &OwnSql, end: &str, work: impl FnOnce(&mut Tx<'_>)) {
        sql.connection().execute_batch("BEGIN").unwrap();
        work(&mut Tx::new(sql.session(), None));
        sql.connection().execute_batch(end).unwrap();
    }

    fn new(id: &str, start: &MessageRow) -> NewInstance {
        NewInstance::new(InstanceId::new(id).unwrap(), "flow", start.clone())
    }

    fn advance(tx: &mut Tx<'_>, new: &NewInstance) {
        let first = Turn::new(new.first_execution(), EventId(0), NOW);
        assert!(turn(tx, CommitId::new(), None, &first).is_ok());
    }

    fn advanced(sql: &OwnSql) -> Vec<String> {
        let find = "SELECT id FROM duroxide_instances WHERE last_commit IS NOT NULL";
        sql.session().rows(find, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn outdated_row_is_not_used() {
        let sql = OwnSql::of(schema::in_memory());
        let (order, other) = (new("order", &MessageRow::new("start")), new("other", &MessageRow::new("start")));
        transact(&sql, "ROLLBACK", |tx| {
            instances::create(tx, &order, None, NOW).unwrap();
            advance(tx, &order);
        });
        assert!(sql.session().found.instances.get(order.first_execution().identity).is_some(), "it was kept");
        transact(&sql, "COMMIT", |tx| {
            instances::create(tx, &other, None, NOW).unwrap();
            instances::create(tx, &order, None, NOW).unwrap();
            advance(tx, &order);
        });
        assert_eq!(advanced(&sql), ["order"]);
    }

    #[test]
    fn row_of_a_copy_is_not_used() {
        let sql = OwnSql::of(schema::in_memory());
        let start = MessageRow::new("start");
        let (order, copy) = (new("order", &start), new("copy", &start));
        transact(&sql, "COMMIT", |tx| {
            instances::create(tx, &order, None, NOW).unwrap();
            instances::create(tx, &copy, None, NOW).unwrap();
            tx.sql.found.instances.keep(order.first_execution().identity, 1);
            advance(tx, &copy);
        });
        assert_eq!(advanced(&sql), ["copy"]);
    }
}
