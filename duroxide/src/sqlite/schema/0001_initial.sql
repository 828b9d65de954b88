-- Times are microseconds since the Unix epoch, UTC. Ids of messages, commits and nodes are UUIDs as 16 bytes.
-- `format` is the format of a row: 1, unless a newer version writes another one. A reader refuses an unknown format.
-- `priority` and `"key"` are reserved for limits by key and for priorities: no statement uses them yet.

-- Counters, which only grow.
CREATE TABLE duroxide_counters (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    arrival INTEGER NOT NULL,
    epoch   INTEGER NOT NULL
) STRICT;
INSERT INTO duroxide_counters (id, arrival, epoch) VALUES (1, 0, 0);

CREATE TABLE duroxide_instances (
    seq              INTEGER PRIMARY KEY,
    id               TEXT    NOT NULL,
    format           INTEGER NOT NULL DEFAULT 1,
    name             TEXT    NOT NULL,
    version          TEXT,
    status           TEXT    NOT NULL DEFAULT 'running',
    execution        INTEGER NOT NULL DEFAULT 1,
    last_event       INTEGER NOT NULL DEFAULT 0,
    owner            INTEGER,                      -- the epoch of a node
    ready_at         INTEGER,                      -- when its first message is due; NULL unless it waits for an owner.
                                                   -- If it is ready at once: the time since it is, minus 2^62
    last_found       INTEGER,                      -- the last message of a client that its owner must load
    crashes          INTEGER NOT NULL DEFAULT 0,
    alone            INTEGER NOT NULL DEFAULT 0,   -- its owner owns nothing else
    suspect          INTEGER NOT NULL DEFAULT 0,   -- its owner died while it was alone
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    finished_at      INTEGER,
    start_id         BLOB    NOT NULL,             -- the id of the message that created it
    last_commit      BLOB,
    suspension       TEXT,
    labels           TEXT,                         -- JSON, for reading; duroxide_labels is for finding
    parent           TEXT,
    parent_execution INTEGER,
    parent_call      INTEGER,
    priority         INTEGER NOT NULL DEFAULT 0,
    "key"            TEXT
) STRICT;
CREATE UNIQUE INDEX duroxide_instances_id ON duroxide_instances (id);
CREATE INDEX duroxide_instances_created ON duroxide_instances (created_at);
CREATE INDEX duroxide_instances_ready ON duroxide_instances (name, version, ready_at)
    WHERE owner IS NULL AND ready_at IS NOT NULL;
CREATE INDEX duroxide_instances_quarantined ON duroxide_instances (name, version, ready_at)
    WHERE owner IS NULL AND ready_at IS NOT NULL AND crashes >= 3 AND suspect = 0;
CREATE INDEX duroxide_instances_owner ON duroxide_instances (owner) WHERE owner IS NOT NULL;
CREATE INDEX duroxide_instances_suspended ON duroxide_instances (name) WHERE status = 'suspended';
CREATE INDEX duroxide_instances_parent ON duroxide_instances (parent) WHERE parent IS NOT NULL;

-- Executions that were continued as new.
CREATE TABLE duroxide_executions (
    instance     INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    continued_at INTEGER NOT NULL,
    PRIMARY KEY (instance, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE duroxide_events (
    instance    INTEGER NOT NULL,
    execution   INTEGER NOT NULL,
    id          INTEGER NOT NULL,
    time        INTEGER NOT NULL,
    decision    INTEGER NOT NULL,                  -- 1: a decision of the function; 0: an input
    format      INTEGER NOT NULL,
    data        TEXT    NOT NULL,
    payload     BLOB,                              -- a small payload; both NULL: JSON's null
    payload_ref INTEGER,                           -- a large payload
    PRIMARY KEY (instance, execution, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE duroxide_messages (
    arrival     INTEGER PRIMARY KEY,
    instance    INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    lane        INTEGER NOT NULL,
    execution   INTEGER,
    call        INTEGER,
    visible_at  INTEGER,
    arrived_at  INTEGER NOT NULL,
    sent        INTEGER NOT NULL,                  -- 1: its id is recorded when it is removed
    format      INTEGER NOT NULL,
    data        TEXT    NOT NULL,
    payload     BLOB,
    payload_ref INTEGER,
    headers     TEXT
) STRICT;
CREATE UNIQUE INDEX duroxide_messages_id ON duroxide_messages (instance, id);
CREATE INDEX duroxide_messages_delayed ON duroxide_messages (visible_at) WHERE visible_at IS NOT NULL;
CREATE INDEX duroxide_messages_call ON duroxide_messages (instance, call)
    WHERE call IS NOT NULL AND visible_at IS NOT NULL;

CREATE TABLE duroxide_activities (
    instance    INTEGER NOT NULL,
    execution   INTEGER NOT NULL,
    call        INTEGER NOT NULL,
    format      INTEGER NOT NULL DEFAULT 1,
    scheduled   INTEGER NOT NULL,                  -- the event that holds its options and its input
    name        TEXT    NOT NULL,
    tag         TEXT,
    detached    INTEGER NOT NULL,
    headers     TEXT,
    attempt     INTEGER NOT NULL DEFAULT 1,
    visible_at  INTEGER NOT NULL,                  -- encoded like ready_at of an instance
    owner       INTEGER,
    crashes     INTEGER NOT NULL DEFAULT 0,
    alone       INTEGER NOT NULL DEFAULT 0,
    suspect     INTEGER NOT NULL DEFAULT 0,
    parked      TEXT,                              -- the reason why it is parked
    last_commit BLOB,
    priority    INTEGER NOT NULL DEFAULT 0,
    "key"       TEXT,
    PRIMARY KEY (instance, execution, call)
) STRICT, WITHOUT ROWID;
CREATE INDEX duroxide_activities_queue ON duroxide_activities (name, visible_at, tag)
    WHERE owner IS NULL AND parked IS NULL;
CREATE INDEX duroxide_activities_quarantined ON duroxide_activities (name, visible_at, tag)
    WHERE owner IS NULL AND parked IS NULL AND crashes >= 3 AND suspect = 0;
CREATE INDEX duroxide_activities_parked ON duroxide_activities (name) WHERE parked IS NOT NULL;

-- Payloads that are too large for a row, stored once per instance.
CREATE TABLE duroxide_payloads (
    id       INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL,
    hash     INTEGER NOT NULL,                     -- a hint for the search; the content decides
    format   INTEGER NOT NULL DEFAULT 1,
    data     BLOB    NOT NULL
) STRICT;
CREATE INDEX duroxide_payloads_hash ON duroxide_payloads (instance, hash);

CREATE TABLE duroxide_labels (
    name     TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    instance INTEGER NOT NULL,
    PRIMARY KEY (name, value, instance)
) STRICT, WITHOUT ROWID;

-- The ids of requests that were carried out, and whose rows are gone, or that were refused when they were sent again. A
-- request that is repeated later is recognized by its id. Ids expire after some time.
CREATE TABLE duroxide_dedup (
    id      BLOB    PRIMARY KEY,
    time    INTEGER NOT NULL,
    refused TEXT              -- the status of the instance found, or 'none' if there was none; NULL: carried out
) STRICT, WITHOUT ROWID;

-- The ids of removed instances, with the number of the last execution, for a later instance with the same id.
CREATE TABLE duroxide_removed (
    id        TEXT    PRIMARY KEY,
    execution INTEGER NOT NULL,
    time      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX duroxide_removed_time ON duroxide_removed (time);

-- The builds that have tried a suspended instance.
CREATE TABLE duroxide_tried (
    instance INTEGER NOT NULL,
    build    TEXT    NOT NULL,
    PRIMARY KEY (instance, build)
) STRICT, WITHOUT ROWID;

CREATE TABLE duroxide_nodes (
    epoch          INTEGER PRIMARY KEY,
    id             BLOB    NOT NULL,
    format         INTEGER NOT NULL DEFAULT 1,     -- not read: a row lasts as long as its process; a new fact is a new column
    name           TEXT    NOT NULL,
    build          TEXT    NOT NULL,
    orchestrations TEXT    NOT NULL,               -- JSON: [[name, version], ..]
    activities     TEXT    NOT NULL,               -- JSON: [name, ..]
    tags           TEXT,                           -- JSON: [tag, ..]; NULL: all
    lease_time     INTEGER NOT NULL,
    beat           INTEGER NOT NULL DEFAULT 0      -- grows while the node lives without a lock
) STRICT;

-- Cancellations: activities that a node runs and whose outcome is no longer wanted.
CREATE TABLE duroxide_notices (
    epoch     INTEGER NOT NULL,
    instance  TEXT    NOT NULL,
    execution INTEGER NOT NULL,
    call      INTEGER NOT NULL,
    PRIMARY KEY (epoch, instance, execution, call)
) STRICT, WITHOUT ROWID;

-- The listeners of processes on this machine: the UDP port of each.
CREATE TABLE duroxide_bells (
    port INTEGER PRIMARY KEY
) STRICT;

CREATE VIEW duroxide_v_instances AS
SELECT i.id, i.name, i.version, i.status, i.execution, i.last_event AS events,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.created_at / 1e6, 'unixepoch') AS created,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.updated_at / 1e6, 'unixepoch') AS updated,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.finished_at / 1e6, 'unixepoch') AS finished,
       i.labels, i.parent, i.suspension, n.name AS node,
       (SELECT count(*) FROM duroxide_messages m WHERE m.instance = i.seq) AS unread
FROM duroxide_instances i LEFT JOIN duroxide_nodes n ON n.epoch = i.owner;

CREATE VIEW duroxide_v_history AS
SELECT i.id AS instance, e.execution, e.id AS event,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.time / 1e6, 'unixepoch') AS time,
       iif(e.decision, 'decision', 'input') AS kind, e.data,
       coalesce(CAST(coalesce(e.payload, p.data) AS TEXT), 'null') AS payload
FROM duroxide_events e
JOIN duroxide_instances i ON i.seq = e.instance
LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref;
