-- The host, the process and the start of a node, for people.
ALTER TABLE duroxide_nodes ADD COLUMN host TEXT;
ALTER TABLE duroxide_nodes ADD COLUMN process INTEGER;
ALTER TABLE duroxide_nodes ADD COLUMN started_at INTEGER;

-- Nodes that are no longer members, in the order in which they departed: the newest ones.
CREATE TABLE duroxide_departed (
    number         INTEGER PRIMARY KEY,
    epoch          INTEGER NOT NULL,
    left_at        INTEGER NOT NULL,
    seen_at        INTEGER NOT NULL,               -- its last sign of life
    cause          TEXT    NOT NULL,               -- left, died, silent or fenced
    id             BLOB    NOT NULL,
    name           TEXT    NOT NULL,
    build          TEXT    NOT NULL,
    orchestrations TEXT    NOT NULL,
    activities     TEXT    NOT NULL,
    tags           TEXT,
    lease_time     INTEGER NOT NULL,
    host           TEXT,
    process        INTEGER,
    started_at     INTEGER
) STRICT;

-- The builds that nodes had.
CREATE TABLE duroxide_builds (
    build          TEXT    PRIMARY KEY NOT NULL,
    seen           INTEGER NOT NULL,               -- grows with each join and departure of a node with a build
    first_seen     INTEGER NOT NULL,
    last_seen      INTEGER NOT NULL,
    orchestrations TEXT    NOT NULL,               -- JSON: [[name, version], ..]
    code           TEXT    NOT NULL                -- JSON: see `BuildCode`
) STRICT;
