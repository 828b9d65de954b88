//! The statements of docs/postgres.md that show the state of the server to people.

use crate::schema;

/// Two instances that wait for a node: one at once, since 90 s, and one since its time, 5 s ago.
const WAITING: &str = "
    INSERT INTO ready (seq, name, version, ready_at, crashes, suspect, rejected)
    SELECT n, 'page', '', CASE n WHEN -1 THEN now - 4611686018427387904 - 90000000 ELSE now - 5000000 END, 0, false, false
      FROM unnest(ARRAY[-1, -2]) AS n, (SELECT (extract(epoch FROM now()) * 1e6)::bigint AS now) AS t";

#[test]
fn statements_on_the_page_run_on_the_schema() {
    let Some(schema) = schema("page") else { return };
    drop(schema.connect()); // which creates the tables
    schema.execute(WAITING);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/postgres.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let page = page.replace("duroxide.", &format!("{}.", schema.name()));
    let page = page.replace("'duroxide'", &format!("'{}'", schema.name()));
    let blocks = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let reads: Vec<_> = blocks.filter(|block| block.starts_with("SELECT") || block.starts_with("WITH")).collect();
    assert!(reads.len() >= 8, "{reads:?}");
    reads.iter().for_each(|statement| schema.execute(statement));

    let work = reads.iter().find(|statement| statement.starts_with("WITH due")).expect("work that waits");
    let work = work.trim_end().trim_end_matches(';');
    schema.execute(&format!(
        "DO $do$ BEGIN
             ASSERT (SELECT count = 2 AND oldest BETWEEN '90 s' AND '30 min' FROM ({work}) AS work WHERE name = 'page');
         END $do$"
    ));
}
