-- The schema of a new database: the result of all migrations. A test compares the two.
--
-- Times are microseconds since the Unix epoch, UTC. Ids of messages, commits and nodes are UUIDs as 16 bytes.
-- `format` is the format of a row: 1, unless a newer version writes another one. A reader refuses an unknown format.
-- `priority` and `"key"` are reserved for limits by key and for priorities: no statement uses them yet.

-- Counters, which only grow.
CREATE TABLE duroxide_counters (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    epoch  INTEGER NOT NULL,
    period INTEGER NOT NULL DEFAULT 0              -- ids expire by periods, which no clock shortens
) STRICT;
INSERT INTO duroxide_counters (id, epoch, period) VALUES (1, 0, 0);

CREATE TABLE duroxide_instances (
    seq              INTEGER PRIMARY KEY,          -- the order of arrival; the other tables name an instance by it
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
    crashes          INTEGER NOT NULL DEFAULT 0,
    alone            INTEGER NOT NULL DEFAULT 0,   -- its owner owns nothing else
    suspect          INTEGER NOT NULL DEFAULT 0,   -- its owner died while it was alone
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    finished_at      INTEGER,
    start_id         BLOB    NOT NULL,             -- its identity: the id of the message that created it
    last_commit      BLOB,
    suspension       TEXT,                         -- of a running instance: it is left to the other builds
    labels           TEXT,                         -- JSON, for reading; duroxide_labels is for finding
    parent           TEXT,
    parent_execution INTEGER,
    parent_call      INTEGER,
    priority         INTEGER NOT NULL DEFAULT 0,
    "key"            TEXT,
    arrivals         INTEGER NOT NULL DEFAULT 0,   -- the last number given to a message
    claim            INTEGER NOT NULL DEFAULT 0,   -- the number of the request that claimed it; 0: created for its owner
    parent_identity  BLOB,
    lost_by          BLOB,                         -- the node from which it was taken over, while it is in flight
    period           INTEGER NOT NULL DEFAULT 0,   -- in which it was created
    waits            TEXT,                         -- the calls that it waits for: see the type `Awaited`
    waits_since      INTEGER,                      -- NULL: since it was created
    waits_until      INTEGER,                      -- when its first timer is due
    cause            TEXT,                         -- of its failure or suspension
    paused           TEXT                          -- JSON: the reason, while a client has suspended it. If the pause ends by
                                                   -- itself, `ready_at` is that time. Without effect once it has finished
) STRICT;
CREATE UNIQUE INDEX duroxide_instances_id ON duroxide_instances (id);
CREATE INDEX duroxide_instances_ready ON duroxide_instances (name, version, ready_at)
    WHERE owner IS NULL AND ready_at IS NOT NULL;
CREATE INDEX duroxide_instances_quarantined ON duroxide_instances (name, version, ready_at)
    WHERE owner IS NULL AND ready_at IS NOT NULL AND crashes >= 3 AND suspect = 0;
CREATE INDEX duroxide_instances_owner ON duroxide_instances (owner) WHERE owner IS NOT NULL;
CREATE INDEX duroxide_instances_parent ON duroxide_instances (parent) WHERE parent IS NOT NULL;
-- Lists scan the instances by `seq`. Completed instances are the majority of a large database and are found by that order
-- alone; the few others have an index. Owned instances are all running and are found by their owner. So an instance that
-- starts, runs and completes on one node never enters the index.
CREATE INDEX duroxide_instances_live ON duroxide_instances (status, seq, name)
    WHERE owner IS NULL AND status <> 'completed';
CREATE INDEX duroxide_instances_lost ON duroxide_instances (lost_by) WHERE lost_by IS NOT NULL;
-- Waits for external events, which are searched by name. Other waits pay nothing for it.
CREATE INDEX duroxide_instances_awaited ON duroxide_instances (waits) WHERE waits >= 'e' AND waits < 'f';
CREATE INDEX duroxide_instances_cause ON duroxide_instances (cause) WHERE cause IS NOT NULL;

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
    place       INTEGER,                           -- the place of the call: duroxide_places
    PRIMARY KEY (instance, execution, id)
) STRICT, WITHOUT ROWID;
-- The references to payloads, so that one without a reference is found.
CREATE INDEX duroxide_events_payload ON duroxide_events (payload_ref) WHERE payload_ref IS NOT NULL;

-- The places of calls in the source. There are few places and many events.
CREATE TABLE duroxide_places (
    id   INTEGER PRIMARY KEY,
    text TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX duroxide_places_text ON duroxide_places (text);

CREATE TABLE duroxide_messages (
    arrival     INTEGER PRIMARY KEY,               -- only orders the rows
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
    number      INTEGER                            -- per instance, so that its owner detects a missing one; NULL: it has a
                                                   -- time of its own
) STRICT;
CREATE UNIQUE INDEX duroxide_messages_id ON duroxide_messages (instance, id);
-- Requests to terminate (lane 3) of instances without an owner are carried out by any node.
CREATE INDEX duroxide_messages_end ON duroxide_messages (instance) WHERE lane = 3;
-- The messages for one execution only: they are removed with it, and its timers by their calls. An instance can have many
-- other messages, which are not searched.
CREATE INDEX duroxide_messages_execution ON duroxide_messages (instance, execution, call) WHERE execution IS NOT NULL;
CREATE INDEX duroxide_messages_payload ON duroxide_messages (payload_ref) WHERE payload_ref IS NOT NULL;

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
    priority    INTEGER NOT NULL DEFAULT 0,
    "key"       TEXT,
    claim       INTEGER NOT NULL DEFAULT 0,        -- as of an instance
    lost_by     BLOB,                              -- as of an instance
    rejected    TEXT,                              -- the reason of the last build; not parked: it is left to the others
    cause       TEXT,                              -- of its last failed attempt, or of its rejection while it is parked
    other_cause TEXT,                              -- the one of the two that `cause` does not show
    PRIMARY KEY (instance, execution, call)
) STRICT, WITHOUT ROWID;
-- The queue, by name, tag and time: a claim reads the ranges of those without a tag, and of the tags that its node serves.
-- Those with a tag are also in an index by name and time, for nodes that serve all tags.
CREATE INDEX duroxide_activities_queue ON duroxide_activities (name, tag, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND (crashes < 3 OR suspect = 1);
CREATE INDEX duroxide_activities_queue_tagged ON duroxide_activities (name, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND (crashes < 3 OR suspect = 1) AND tag IS NOT NULL;
CREATE INDEX duroxide_activities_quarantined ON duroxide_activities (name, tag, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND crashes >= 3 AND suspect = 0;
CREATE INDEX duroxide_activities_quarantined_tagged ON duroxide_activities (name, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND crashes >= 3 AND suspect = 0 AND tag IS NOT NULL;
-- An instance with a parked activity is shown as suspended.
CREATE INDEX duroxide_activities_parked ON duroxide_activities (instance) WHERE parked IS NOT NULL;
CREATE INDEX duroxide_activities_lost ON duroxide_activities (lost_by) WHERE lost_by IS NOT NULL;
CREATE INDEX duroxide_activities_cause ON duroxide_activities (cause) WHERE cause IS NOT NULL;

-- Failed attempts that were repeated: of each call, the first and the last ones.
CREATE TABLE duroxide_attempts (
    instance  INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    call      INTEGER NOT NULL,
    attempt   INTEGER NOT NULL,
    node      INTEGER NOT NULL,                    -- the epoch of the node that ran it
    began     INTEGER NOT NULL,
    ended     INTEGER NOT NULL,
    next_at   INTEGER NOT NULL,
    error     TEXT    NOT NULL,
    PRIMARY KEY (instance, execution, call, attempt)
) STRICT, WITHOUT ROWID;

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

-- Removed instances (`execution` is zero) and pruned executions whose rows are still to be removed, a few with each
-- transaction. No later instance takes the number of such an instance.
CREATE TABLE duroxide_removals (
    instance  INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    PRIMARY KEY (instance, execution)
) STRICT, WITHOUT ROWID;

-- The ids of requests that were carried out, and whose rows are gone, or that were refused when they were sent again. A
-- request that is repeated later is recognised by its id.
CREATE TABLE duroxide_dedup (
    id      BLOB    PRIMARY KEY,
    period  INTEGER NOT NULL,
    refused TEXT              -- the status of the instance found, or 'none' if there was none; NULL: carried out
) STRICT, WITHOUT ROWID;

-- Mail: messages that were not forwarded to the owner of their instance, up to a number, until the owner has
-- acknowledged them.
CREATE TABLE duroxide_mail (
    owner    INTEGER NOT NULL,
    instance INTEGER NOT NULL,
    upto     INTEGER NOT NULL,
    PRIMARY KEY (owner, instance)
) STRICT, WITHOUT ROWID;

-- Activities that a node runs and whose outcome is no longer wanted, until the node has acknowledged the cancellation.
CREATE TABLE duroxide_cancellations (
    epoch     INTEGER NOT NULL,
    instance  TEXT    NOT NULL,
    identity  BLOB    NOT NULL,
    execution INTEGER NOT NULL,
    call      INTEGER NOT NULL,
    PRIMARY KEY (epoch, identity, execution, call)
) STRICT, WITHOUT ROWID;

-- The builds that have rejected an instance (`execution` and `call` are zero) or one of its activities. A rejected item
-- runs on until each build among the members has rejected it; then it is suspended or parked.
CREATE TABLE duroxide_rejections (
    instance  INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    call      INTEGER NOT NULL,
    build     TEXT    NOT NULL,
    PRIMARY KEY (instance, execution, call, build)
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
    beat           INTEGER NOT NULL DEFAULT 0,     -- grows while the node lives without a lock
    claim          INTEGER NOT NULL DEFAULT 0,     -- the number of its last claim
    host           TEXT,                           -- this and the next two, for people
    process        INTEGER,
    started_at     INTEGER,
    report         TEXT,                           -- its last report, for people. JSON: see `NodeReport`
    seen_at        INTEGER                         -- its last sign of life, if it has no lock file; else its join
) STRICT;

-- The processes that listen for notices: the UDP port of each, on this machine.
CREATE TABLE duroxide_listeners (
    port INTEGER PRIMARY KEY
) STRICT;

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

-- The audit: actions from outside, in the order in which they were written. An entry outlives its instance.
CREATE TABLE duroxide_audit (
    number   INTEGER PRIMARY KEY,
    id       BLOB    NOT NULL,                     -- an entry that is written again is recognised by its id
    time     INTEGER NOT NULL,                     -- by the clock of the client
    actor    TEXT    NOT NULL,
    via      TEXT,
    action   TEXT    NOT NULL,
    instance TEXT,
    reason   TEXT,
    detail   TEXT,
    batch    BLOB
) STRICT;
CREATE UNIQUE INDEX duroxide_audit_id ON duroxide_audit (id);
CREATE INDEX duroxide_audit_time ON duroxide_audit (time);
CREATE INDEX duroxide_audit_instance ON duroxide_audit (instance, number) WHERE instance IS NOT NULL;
CREATE INDEX duroxide_audit_batch ON duroxide_audit (batch, number) WHERE batch IS NOT NULL;

-- For people.
CREATE VIEW duroxide_v_instances AS
SELECT i.id, i.name, i.version,
       iif(i.status = 'running' AND a.parked IS NOT NULL, 'suspended', i.status) AS status,
       i.execution, i.last_event AS events,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.created_at / 1e6, 'unixepoch') AS created,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.updated_at / 1e6, 'unixepoch') AS updated,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.finished_at / 1e6, 'unixepoch') AS finished,
       i.labels, i.parent,
       coalesce(iif(i.status = 'suspended', coalesce(i.paused, i.suspension), NULL), a.parked) AS suspension,
       n.name AS node,
       (SELECT count(*) FROM duroxide_messages m WHERE m.instance = i.seq) AS unread,
       i.waits,
       strftime('%Y-%m-%dT%H:%M:%fZ', iif(i.waits IS NULL, NULL, coalesce(i.waits_since, i.created_at)) / 1e6, 'unixepoch')
           AS waits_since,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.waits_until / 1e6, 'unixepoch') AS waits_until, i.cause
FROM duroxide_instances i
LEFT JOIN duroxide_nodes n ON n.epoch = i.owner
LEFT JOIN (SELECT instance, min(parked) AS parked FROM duroxide_activities WHERE parked IS NOT NULL GROUP BY instance) a
    ON a.instance = i.seq;

CREATE VIEW duroxide_v_history AS
SELECT i.id AS instance, e.execution, e.id AS event,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.time / 1e6, 'unixepoch') AS time,
       iif(e.decision, 'decision', 'input') AS kind, e.data,
       coalesce(CAST(coalesce(e.payload, p.data) AS TEXT), 'null') AS payload,
       (SELECT s.text FROM duroxide_places s WHERE s.id = e.place) AS place
FROM duroxide_events e
JOIN duroxide_instances i ON i.seq = e.instance
LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref;

CREATE VIEW duroxide_v_attempts AS
SELECT i.id AS instance, a.execution, a.call, a.attempt, a.node,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.began / 1e6, 'unixepoch') AS began,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.ended / 1e6, 'unixepoch') AS ended,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.next_at / 1e6, 'unixepoch') AS next, a.error
FROM duroxide_attempts a JOIN duroxide_instances i ON i.seq = a.instance;
