//! Removal of finished instances with all their rows.

use duroxide::id::{ActivityId, CallId, Epoch};
use tokio_postgres::Row;

use crate::batch::cancellations;
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{epoch, execution, natural};

/// Removes instances within a transaction that has locked their rows in `instances`. Returns the activities that nodes
/// still run, with their owners; the owners receive cancellations.
pub(crate) async fn remove(connection: &Connection, seqs: &[i64]) -> Result<Vec<(Epoch, ActivityId)>, Fault> {
    let find = "SELECT i.id, i.identity, a.execution, a.call, a.owner
        FROM activities a JOIN instances i ON i.seq = a.instance WHERE a.instance = ANY ($1::bigint[])
        ORDER BY a.instance, a.execution, a.call FOR UPDATE OF a";
    let activities = connection.query(step!(find, seqs)).await?;
    let owned = |row: &Row| {
        let id = ActivityId { execution: execution(row)?, call: CallId(natural(row, "call")?) };
        Ok(epoch(row, "owner")?.map(|owner| (owner, id)))
    };
    let running: Result<Vec<_>, Fault> = activities.iter().map(owned).collect();
    let running: Vec<_> = running?.into_iter().flatten().collect();
    let mut steps = vec![
        step!("DELETE FROM activities WHERE instance = ANY ($1::bigint[])", seqs),
        step!("DELETE FROM messages WHERE instance = ANY ($1::bigint[])", seqs),
        step!("DELETE FROM attempts WHERE instance = ANY ($1::bigint[])", seqs),
        step!("DELETE FROM events WHERE instance = ANY ($1::bigint[])", seqs),
        step!("DELETE FROM executions WHERE instance = ANY ($1::bigint[])", seqs),
        step!("DELETE FROM labels WHERE instance = ANY ($1::bigint[])", seqs),
        step!("DELETE FROM rejections WHERE instance = ANY ($1::bigint[])", seqs),
        step!("DELETE FROM mail WHERE instance = ANY ($1::bigint[])", seqs),
        // The start message of an instance may be sent again, and must not create it once more.
        step!(
            "INSERT INTO dedup (id) SELECT identity FROM instances WHERE seq = ANY ($1::bigint[]) ON CONFLICT DO NOTHING",
            seqs
        ),
        step!("DELETE FROM instances WHERE seq = ANY ($1::bigint[])", seqs),
    ];
    steps.extend(cancellations(&running));
    connection.run(&steps).await?;
    drop(steps);
    Ok(running)
}
