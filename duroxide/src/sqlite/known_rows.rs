//! The rows of live instances that a connection has found, so that a turn finds its row without a search by the id.

use std::cell::RefCell;

use crate::hash::HashMap;
use crate::id::Identity;

/// The numbers of rows, by the identity of the instance. They are hints: an undone transaction, or another process, may have
/// changed the row, so that the statement that uses a number compares the identity.
#[derive(Default)]
pub(super) struct KnownRows(RefCell<HashMap<Identity, i64>>);

impl KnownRows {
    /// The rows that are kept: as many as a node has live instances, usually.
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

    #[test]
    fn outdated_row_is_not_used() {
        let sql = OwnSql::of(schema::in_memory());
        let new = |id| NewInstance::new(InstanceId::new(id).unwrap(), "flow", MessageRow::new("start"));
        let (order, other) = (new("order"), new("other"));
        let first = Turn::new(order.first_execution(), EventId(0), Timestamp::default());
        let transact = |create: &[&NewInstance], end| {
            sql.connection().execute_batch("BEGIN").unwrap();
            let mut tx = Tx::new(sql.session(), None);
            for new in create {
                instances::create(&mut tx, new, None, Timestamp::default()).unwrap();
            }
            let committed = turn(&mut tx, CommitId::new(), None, &first);
            sql.connection().execute_batch(end).unwrap();
            committed.is_ok()
        };
        assert!(transact(&[&order], "ROLLBACK"));
        assert!(sql.session().found.instances.get(order.first_execution().identity).is_some(), "it was kept");
        assert!(transact(&[&other, &order], "COMMIT"));
        let find = "SELECT id FROM duroxide_instances WHERE last_commit IS NOT NULL";
        let advanced = sql.session().rows(find, [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(advanced, ["order"]);
    }
}
