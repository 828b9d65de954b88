//! Instances without an owner that are to be terminated.

use rusqlite::Row;

use super::columns::columns;
use super::rows::{execution, message};
use super::sql::Sql;
use crate::id::InstanceId;
use crate::provider::Ending;

columns! {
    /// An instance `i`. The columns follow those of its message.
    mod instance { ID = "i.id", START_ID = "i.start_id", EXECUTION = "i.execution" }
}

/// Finds the instances without an owner that have a request to terminate, each with the oldest one. An instance that has
/// finished has no messages.
const FIND: &str = concat!(
    "SELECT ",
    message::list!(),
    ", ",
    instance::list!(),
    " FROM duroxide_messages m CROSS JOIN duroxide_instances i ON i.seq = m.instance
     LEFT JOIN duroxide_payloads p ON p.id = m.payload_ref
     WHERE m.lane = 3 AND i.owner IS NULL ORDER BY m.instance, m.arrival"
);

/// Returns the instances that are to be terminated and have no owner.
pub(super) fn find(sql: &Sql) -> rusqlite::Result<Vec<Ending>> {
    let mut found: Vec<Ending> = Vec::new();
    sql.each(FIND, [], |row| {
        // An instance without a valid id cannot be ended by its id.
        let Ok(ending) = ending(row) else { return Ok(true) };
        let is_next = |last: &Ending| id(last) != id(&ending);
        if found.last().is_none_or(is_next) {
            found.push(ending);
        }
        Ok(true)
    })?;
    Ok(found)
}

fn id(ending: &Ending) -> &InstanceId {
    &ending.execution.instance
}

fn ending(row: &Row<'_>) -> rusqlite::Result<Ending> {
    let columns = [instance::ID, instance::START_ID, instance::EXECUTION].map(|column| message::COUNT + column);
    Ok(Ending { execution: execution(row, columns)?, message: message(row)?.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_to_terminate_are_read() {
        let connection = crate::sqlite::schema::in_memory();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {FIND}")).unwrap();
        let plan: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(plan[0].contains("m USING INDEX duroxide_messages_end"), "{plan:#?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:#?}");
    }
}
