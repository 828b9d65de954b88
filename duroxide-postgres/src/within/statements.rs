//! The statements that run on connections of the program.

/// The statements, with the name of the schema.
pub(crate) struct Statements {
    pub(crate) start: String,
    pub(crate) status: String,
    pub(crate) raise: String,
    pub(crate) lock: String,
    pub(crate) outcome: String,
    pub(crate) audit: String,
}

impl Statements {
    /// The schema and the channel consist of letters, digits and `_`.
    pub(crate) fn new(schema: &str, channel: &str) -> Self {
        let fill = |sql: &str| {
            let sql: Vec<_> = sql.lines().filter(|line| !line.starts_with("--")).collect();
            sql.join("\n").replace("SCHEMA", &format!("\"{schema}\"")).replace("CHANNEL", channel)
        };
        Self {
            start: fill(include_str!("start.sql")),
            status: fill("SELECT status FROM SCHEMA.instances WHERE id = $1"),
            raise: fill(include_str!("raise.sql")),
            lock: fill("SELECT 'locked' FROM SCHEMA.live WHERE id = $1 FOR NO KEY UPDATE"),
            outcome: fill(include_str!("outcome.sql")),
            audit: fill(include_str!("audit.sql")),
        }
    }
}
