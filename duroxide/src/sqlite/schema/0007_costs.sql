-- The messages for one execution only: they are removed with it, and its timers by their calls. An instance can have many
-- other messages, which are not searched.
DROP INDEX duroxide_messages_call;
CREATE INDEX duroxide_messages_execution ON duroxide_messages (instance, execution, call) WHERE execution IS NOT NULL;

-- Removed instances (`execution` is zero) and pruned executions whose rows are still to be removed, a few with each
-- transaction. No later instance takes the number of such an instance.
CREATE TABLE duroxide_removals (
    instance  INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    PRIMARY KEY (instance, execution)
) STRICT, WITHOUT ROWID;
-- The references to payloads, so that one without a reference is found.
CREATE INDEX duroxide_events_payload ON duroxide_events (payload_ref) WHERE payload_ref IS NOT NULL;
CREATE INDEX duroxide_messages_payload ON duroxide_messages (payload_ref) WHERE payload_ref IS NOT NULL;

-- Ids expire by periods, which no clock of a node or a machine shortens. The current period:
ALTER TABLE duroxide_counters ADD COLUMN period INTEGER NOT NULL DEFAULT 0;
ALTER TABLE duroxide_instances ADD COLUMN period INTEGER NOT NULL DEFAULT 0;     -- in which it was created
ALTER TABLE duroxide_dedup RENAME TO duroxide_dedup_before;
CREATE TABLE duroxide_dedup (
    id      BLOB    PRIMARY KEY,
    period  INTEGER NOT NULL,
    refused TEXT              -- the status of the instance found, or 'none' if there was none; NULL: carried out
) STRICT, WITHOUT ROWID;
INSERT INTO duroxide_dedup (id, period, refused) SELECT id, 0, refused FROM duroxide_dedup_before;
DROP TABLE duroxide_dedup_before;
