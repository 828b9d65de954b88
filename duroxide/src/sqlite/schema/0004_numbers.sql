-- Messages are numbered per instance, so that the owner of an instance detects a missing one. A message with a time of
-- its own has no number. `arrival` only orders the rows.
ALTER TABLE duroxide_instances ADD COLUMN arrivals INTEGER NOT NULL DEFAULT 0;   -- the last number given to a message
ALTER TABLE duroxide_messages ADD COLUMN number INTEGER;
UPDATE duroxide_messages AS m SET number = (
    SELECT count(*) FROM duroxide_messages o
    WHERE o.instance = m.instance AND o.visible_at IS NULL AND o.arrival <= m.arrival) WHERE visible_at IS NULL;
UPDATE duroxide_instances AS i SET arrivals = (
    SELECT count(*) FROM duroxide_messages m WHERE m.instance = i.seq AND m.visible_at IS NULL);
ALTER TABLE duroxide_instances DROP COLUMN last_found;
ALTER TABLE duroxide_counters DROP COLUMN arrival;
-- The owner of an instance keeps its timers in memory.
DROP INDEX duroxide_messages_delayed;

-- Mail: messages that were not forwarded to the owner of their instance, up to a number, until the owner has
-- acknowledged them.
CREATE TABLE duroxide_mail (
    owner    INTEGER NOT NULL,
    instance INTEGER NOT NULL,
    upto     INTEGER NOT NULL,
    PRIMARY KEY (owner, instance)
) STRICT, WITHOUT ROWID;

-- An owned item carries the claim of its owner: the number of the request that claimed it, or zero if the item was
-- created for the owner.
ALTER TABLE duroxide_instances ADD COLUMN claim INTEGER NOT NULL DEFAULT 0;
ALTER TABLE duroxide_activities ADD COLUMN claim INTEGER NOT NULL DEFAULT 0;
ALTER TABLE duroxide_activities DROP COLUMN last_commit;
ALTER TABLE duroxide_nodes ADD COLUMN claim INTEGER NOT NULL DEFAULT 0;          -- the number of its last claim

-- `start_id` is the identity of an instance and is never reused. It distinguishes a removed instance from a later one
-- with the same id, so removed ids need not be recorded.
ALTER TABLE duroxide_instances ADD COLUMN parent_identity BLOB;
UPDATE duroxide_instances AS i SET parent_identity = (SELECT p.start_id FROM duroxide_instances p WHERE p.id = i.parent)
    WHERE parent IS NOT NULL;
DROP TABLE duroxide_removed;

-- Activities that a node runs and whose outcome is no longer wanted, until the node has acknowledged the cancellation.
DROP TABLE duroxide_notices;
CREATE TABLE duroxide_cancellations (
    epoch     INTEGER NOT NULL,
    instance  TEXT    NOT NULL,
    identity  BLOB    NOT NULL,
    execution INTEGER NOT NULL,
    call      INTEGER NOT NULL,
    PRIMARY KEY (epoch, identity, execution, call)
) STRICT, WITHOUT ROWID;

-- The processes that listen for notices: the UDP port of each, on this machine.
ALTER TABLE duroxide_bells RENAME TO duroxide_listeners;
ALTER TABLE duroxide_tried RENAME TO duroxide_resume_attempts;

-- An item in flight carries the node from which it was taken over, so that its crash is reverted if that node joins
-- again.
ALTER TABLE duroxide_instances ADD COLUMN lost_by BLOB;
ALTER TABLE duroxide_activities ADD COLUMN lost_by BLOB;
CREATE INDEX duroxide_instances_lost ON duroxide_instances (lost_by) WHERE lost_by IS NOT NULL;
CREATE INDEX duroxide_activities_lost ON duroxide_activities (lost_by) WHERE lost_by IS NOT NULL;
