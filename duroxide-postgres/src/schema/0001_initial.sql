-- The tables of Duroxide in one schema of a PostgreSQL database.
--
-- Times are microseconds since the Unix epoch, UTC, by the clock of this database. The number of an instance (`seq`) is
-- never reused, so leftovers of a removed instance are never mistaken for those of a later one with the same id.
-- `format` is the format of a row: 1, unless a newer version writes another one.
--
-- An instance has two halves. `instances` is large and cold: one insert, and one update at the end. `live` is small and
-- hot: one row per unfinished instance, without an index but its keys, so that every turn is a HOT update. As long as the
-- row in `live` exists, its columns are those that count, and its row lock guards all messages of the instance.

CREATE SEQUENCE arrivals AS bigint;
CREATE SEQUENCE epochs AS bigint MAXVALUE 140737488355327;

CREATE TABLE instances (
    seq              bigint PRIMARY KEY,
    id               text COLLATE "C" NOT NULL,
    format           smallint NOT NULL DEFAULT 1,
    identity         uuid NOT NULL,                  -- the id of the message that created it
    name             text COLLATE "C" NOT NULL,
    version          text COLLATE "C",
    status           text COLLATE "C" NOT NULL DEFAULT 'running',
    execution        bigint NOT NULL DEFAULT 1,
    last_event       bigint NOT NULL DEFAULT 0,
    created_at       bigint NOT NULL,
    updated_at       bigint NOT NULL,
    finished_at      bigint,
    last_commit      uuid,
    labels           text COLLATE "C",               -- JSON, for reading; `labels` is for finding
    parent           text COLLATE "C",
    parent_identity  uuid,
    parent_execution bigint,
    parent_call      bigint
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX instances_id ON instances (id);
CREATE INDEX instances_parent ON instances (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX instances_status ON instances (status, seq) WHERE status <> 'completed';

CREATE TABLE live (
    seq         bigint PRIMARY KEY,
    id          text COLLATE "C" NOT NULL,
    identity    uuid NOT NULL,
    name        text COLLATE "C" NOT NULL,
    version     text COLLATE "C",
    execution   bigint NOT NULL,
    last_event  bigint NOT NULL,
    owner       bigint,                              -- the epoch of a node
    claim       bigint NOT NULL,                     -- the claim by which it is owned; 0: it was created for its owner
    arrivals    bigint NOT NULL,                     -- the last number given to a message
    stored      bigint NOT NULL,                     -- the number of messages ever stored, including those with a time
    crashes     integer NOT NULL,
    alone       boolean NOT NULL,                    -- its owner owns nothing else
    suspect     boolean NOT NULL,
    lost_by     uuid,                                -- the node of the last crash
    suspended   boolean NOT NULL,
    rejected    text COLLATE "C",                    -- the reason for which a build has last rejected it
    updated_at  bigint NOT NULL,
    last_commit uuid
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX live_id ON live (id);
CREATE INDEX live_rejected ON live (seq) WHERE rejected IS NOT NULL;
CREATE INDEX live_lost ON live (lost_by) WHERE lost_by IS NOT NULL;

-- Instances that wait for an owner: running, without an owner, and with a message. `ready_at` is the time of the first
-- message; if that may be delivered at once, the time since it was sent, minus 2^62, so that it sorts before all times.
CREATE TABLE ready (
    seq      bigint PRIMARY KEY,
    name     text COLLATE "C" NOT NULL,
    version  text COLLATE "C" NOT NULL,              -- empty: not pinned
    ready_at bigint NOT NULL,
    crashes  integer NOT NULL,
    suspect  boolean NOT NULL,
    rejected boolean NOT NULL
);
CREATE INDEX ready_queue ON ready (name, version, ready_at) WHERE crashes < 3 OR suspect;
CREATE INDEX ready_quarantined ON ready (name, version, ready_at) WHERE crashes >= 3 AND NOT suspect;

-- One row per turn, or per part of a large turn: events `first` to `last`. `heads` is JSON: for each event its time,
-- 1 for a decision or 0 for an input, its format, the lengths of its data and of its payload, and the place of its call.
-- `body` holds data and payload of each event side by side. The view `v_history` shows single events.
CREATE TABLE events (
    instance  bigint NOT NULL,
    execution bigint NOT NULL,
    last      bigint NOT NULL,
    first     bigint NOT NULL,
    heads     text COLLATE "C" NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (instance, execution, last)
);

-- Executions that were continued as new.
CREATE TABLE executions (
    instance     bigint NOT NULL,
    number       bigint NOT NULL,
    continued_at bigint NOT NULL,
    PRIMARY KEY (instance, number)
);

CREATE TABLE messages (
    instance   bigint NOT NULL,
    id         uuid NOT NULL,
    arrival    bigint NOT NULL,                      -- its position among the messages ever stored for the instance
    number     bigint,
    lane       smallint NOT NULL,
    execution  bigint,
    call       bigint,
    visible_at bigint,
    arrived_at bigint NOT NULL,
    sent       boolean NOT NULL,                     -- its id is recorded when it is removed
    format     integer NOT NULL,
    data       text COLLATE "C" NOT NULL,
    payload    bytea,                                -- NULL: JSON's null
    PRIMARY KEY (instance, id)
);
-- An instance may have many messages that are for any execution: those for one are found without them.
CREATE INDEX messages_execution ON messages (instance, execution, call) WHERE execution IS NOT NULL;
-- Requests to terminate, which any node carries out if the instance has no owner.
CREATE INDEX messages_end ON messages (instance, arrival) WHERE lane = 3;

CREATE TABLE activities (
    instance  bigint NOT NULL,
    execution bigint NOT NULL,
    call      bigint NOT NULL,
    scheduled bigint NOT NULL,                       -- the event that holds its options and its input
    name      text COLLATE "C" NOT NULL,
    tag       text COLLATE "C",
    detached  boolean NOT NULL,
    headers   text COLLATE "C",                      -- JSON
    attempt   bigint NOT NULL,
    ready_at  bigint NOT NULL,                       -- encoded like that of `ready`
    owner     bigint,
    claim     bigint NOT NULL,
    crashes   integer NOT NULL,
    alone     boolean NOT NULL,
    suspect   boolean NOT NULL,
    lost_by   uuid,
    rejected  text COLLATE "C",
    parked    boolean NOT NULL,                      -- it is rejected, and no member can try it
    PRIMARY KEY (instance, execution, call)
);
-- Failed attempts that were repeated: of each call, the first and the last ones.
CREATE TABLE attempts (
    instance  bigint NOT NULL,
    execution bigint NOT NULL,
    call      bigint NOT NULL,
    attempt   bigint NOT NULL,
    node      bigint NOT NULL,                       -- the epoch of the node that ran it
    began     bigint NOT NULL,
    ended     bigint NOT NULL,
    next_at   bigint NOT NULL,
    error     text COLLATE "C" NOT NULL,
    PRIMARY KEY (instance, execution, call, attempt)
);
CREATE INDEX activities_queue ON activities (name, ready_at)
    WHERE owner IS NULL AND NOT parked AND (crashes < 3 OR suspect);
CREATE INDEX activities_quarantined ON activities (name, ready_at)
    WHERE owner IS NULL AND NOT parked AND crashes >= 3 AND NOT suspect;
CREATE INDEX activities_rejected ON activities (instance) WHERE rejected IS NOT NULL;
CREATE INDEX activities_lost ON activities (lost_by) WHERE lost_by IS NOT NULL;

-- The builds that have rejected an instance (`execution` and `call` are zero) or one of its activities.
CREATE TABLE rejections (
    instance  bigint NOT NULL,
    execution bigint NOT NULL,
    call      bigint NOT NULL,
    build     text COLLATE "C" NOT NULL,
    PRIMARY KEY (instance, execution, call, build)
);

-- Messages that were not forwarded to the owner of their instance, up to a number, until the owner has acknowledged them.
CREATE TABLE mail (
    owner    bigint NOT NULL,
    instance bigint NOT NULL,
    upto     bigint NOT NULL,
    PRIMARY KEY (owner, instance)
);

-- Activities that a node runs and whose outcome is no longer wanted, until the node has acknowledged the cancellation.
CREATE TABLE cancellations (
    epoch     bigint NOT NULL,
    identity  uuid NOT NULL,
    execution bigint NOT NULL,
    call      bigint NOT NULL,
    instance  text COLLATE "C" NOT NULL,
    PRIMARY KEY (epoch, identity, execution, call)
);

-- The ids of requests that were carried out and whose rows are gone, or that were refused when they were sent again.
CREATE TABLE dedup (
    id      uuid PRIMARY KEY,
    refused text COLLATE "C",                        -- the status of the instance found, or 'none'; NULL: carried out
    time    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dedup_time ON dedup (time);

CREATE TABLE labels (
    name     text COLLATE "C" NOT NULL,
    value    text COLLATE "C" NOT NULL,
    instance bigint NOT NULL,
    PRIMARY KEY (name, value, instance)
);
CREATE INDEX labels_instance ON labels (instance);

-- The nodes. The row of a node that has died or left remains for some minutes.
CREATE TABLE nodes (
    epoch          bigint PRIMARY KEY,
    id             uuid NOT NULL,
    name           text COLLATE "C" NOT NULL,
    build          text COLLATE "C" NOT NULL,
    orchestrations text COLLATE "C" NOT NULL,        -- JSON: [[name, version], ..]
    activities     text COLLATE "C" NOT NULL,        -- JSON: [name, ..]
    tags           text COLLATE "C",                 -- JSON: [tag, ..]; NULL: all
    claim          bigint NOT NULL DEFAULT 0,        -- the number of its last claim
    lease          bigint NOT NULL,                  -- in microseconds
    expires_at     timestamptz NOT NULL,
    suspected_at   timestamptz,                      -- another node has seen it overdue
    dead           boolean NOT NULL DEFAULT false,
    crashed        boolean NOT NULL DEFAULT false,   -- it has not left, but was taken over
    freed          boolean NOT NULL DEFAULT false,   -- nothing is owned by it
    died_at        timestamptz
);
CREATE INDEX nodes_id ON nodes (id);

-- Small tables with many short-lived rows: dead rows must not pile up.
ALTER TABLE live SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE ready SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE messages SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE activities SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE mail SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE dedup SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE instances SET (autovacuum_vacuum_scale_factor = 0.02);

-- Large values: lz4 where the server has it, since pglz takes five times as long; otherwise uncompressed.
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        -- Older servers do not know the words.
        EXECUTE 'ALTER TABLE events ALTER COLUMN body SET COMPRESSION lz4';
        EXECUTE 'ALTER TABLE messages ALTER COLUMN payload SET COMPRESSION lz4';
    ELSE
        ALTER TABLE events ALTER COLUMN body SET STORAGE EXTERNAL;
        ALTER TABLE messages ALTER COLUMN payload SET STORAGE EXTERNAL;
    END IF;
END $$;

-- For people: instances, and single events. Not read by the program.
CREATE VIEW v_instances AS
SELECT i.id, i.name, coalesce(l.version, i.version) AS version, i.status, coalesce(l.execution, i.execution) AS execution,
       coalesce(l.last_event, i.last_event) AS events,
       to_timestamp(i.created_at / 1e6) AS created, to_timestamp(coalesce(l.updated_at, i.updated_at) / 1e6) AS updated,
       to_timestamp(i.finished_at / 1e6) AS finished, i.labels, i.parent, l.rejected AS suspension, n.name AS node,
       (SELECT count(*) FROM messages m WHERE m.instance = i.seq) AS unread
FROM instances i LEFT JOIN live l ON l.seq = i.seq LEFT JOIN nodes n ON n.epoch = l.owner;

CREATE VIEW v_history AS
SELECT i.id AS instance, e.execution, e.first + h.n - 1 AS event, to_timestamp((h.head ->> 0)::bigint / 1e6) AS time,
       CASE WHEN h.head ->> 1 = '1' THEN 'decision' ELSE 'input' END AS kind,
       convert_from(substr(e.body, h.start::integer + 1, (h.head ->> 3)::integer), 'UTF8') AS data,
       CASE WHEN h.head ->> 4 = '0' THEN 'null' ELSE convert_from(substr(e.body,
           (h.start + (h.head ->> 3)::bigint)::integer + 1, (h.head ->> 4)::integer), 'UTF8') END AS payload,
       nullif(h.head ->> 5, '') AS place
FROM instances i JOIN events e ON e.instance = i.seq
CROSS JOIN LATERAL (
    SELECT n, head, sum((head ->> 3)::bigint + (head ->> 4)::bigint) OVER (ORDER BY n)
        - (head ->> 3)::bigint - (head ->> 4)::bigint AS start
    FROM jsonb_array_elements(e.heads::jsonb) WITH ORDINALITY AS t (head, n)) h;
