//! Bare commits on PostgreSQL.

use std::time::Instant;

use super::Options;
use crate::measure::{Report, Run, Times};
use crate::server::{SCHEMA, connect};
use crate::setup::Kind;

/// The length of a row: about that of an event.
const ROW: usize = 200;

pub(super) async fn commits(options: &Options) -> duroxide::Result<Report> {
    if options.kind != Kind::Postgres {
        return Err(duroxide::Error::new(
            "the bare commits of SQLite are a workload of the peers: `peer floor commits`",
        ));
    }
    let client = connect(&options.database).await?;
    let table =
        format!("CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.bare (id bigint PRIMARY KEY, text text NOT NULL)");
    client.batch_execute(&table).await?;
    let insert = client.prepare(&format!("INSERT INTO {SCHEMA}.bare (id, text) VALUES ($1, $2)")).await?;
    let text = "x".repeat(ROW);
    let run = Run::begin(0);
    let mut times = Times::default();
    for i in 0..i64::try_from(options.n)? {
        let begun = Instant::now();
        client.execute(&insert, &[&i, &text]).await?;
        times.push(begun.elapsed());
        (options.progress)(1);
    }
    Ok(run.end(options.n, times, 0))
}
