-- The calls that an instance waits for: a text of the node, which no statement interprets. Without an index, so that a turn
-- remains a HOT update: `live` is small.
ALTER TABLE live ADD COLUMN waits text COLLATE "C", ADD COLUMN waits_since bigint, ADD COLUMN waits_until bigint;
-- The cause of a suspension, with `rejected`; and that of a failure, in the half that remains.
ALTER TABLE live ADD COLUMN cause text COLLATE "C";
ALTER TABLE instances ADD COLUMN cause text COLLATE "C";
-- The cause of the last failed attempt, or of the rejection.
ALTER TABLE activities ADD COLUMN cause text COLLATE "C";
CREATE INDEX live_cause ON live (cause) WHERE cause IS NOT NULL;
CREATE INDEX instances_cause ON instances (cause) WHERE cause IS NOT NULL;
CREATE INDEX activities_cause ON activities (cause) WHERE cause IS NOT NULL;

CREATE OR REPLACE VIEW v_instances AS
SELECT i.id, i.name, coalesce(l.version, i.version) AS version, i.status, coalesce(l.execution, i.execution) AS execution,
       coalesce(l.last_event, i.last_event) AS events,
       to_timestamp(i.created_at / 1e6) AS created, to_timestamp(coalesce(l.updated_at, i.updated_at) / 1e6) AS updated,
       to_timestamp(i.finished_at / 1e6) AS finished, i.labels, i.parent, l.rejected AS suspension, n.name AS node,
       (SELECT count(*) FROM messages m WHERE m.instance = i.seq) AS unread,
       l.waits, to_timestamp(l.waits_since / 1e6) AS waits_since, to_timestamp(l.waits_until / 1e6) AS waits_until,
       coalesce(l.cause, i.cause) AS cause
FROM instances i LEFT JOIN live l ON l.seq = i.seq LEFT JOIN nodes n ON n.epoch = l.owner;
