-- The calls that an instance waits for: a text of the node, which no statement interprets; see the type `Awaited`.
ALTER TABLE duroxide_instances ADD COLUMN waits TEXT;
ALTER TABLE duroxide_instances ADD COLUMN waits_since INTEGER;                   -- NULL: since it was created
ALTER TABLE duroxide_instances ADD COLUMN waits_until INTEGER;                   -- when its first timer is due
-- Waits for external events, which are searched by name. Other waits pay nothing for it.
CREATE INDEX duroxide_instances_awaited ON duroxide_instances (waits) WHERE waits >= 'e' AND waits < 'f';

-- The cause of a failure or a suspension, and of the last failed attempt or the rejection of an activity.
ALTER TABLE duroxide_instances ADD COLUMN cause TEXT;
CREATE INDEX duroxide_instances_cause ON duroxide_instances (cause) WHERE cause IS NOT NULL;
ALTER TABLE duroxide_activities ADD COLUMN cause TEXT;
CREATE INDEX duroxide_activities_cause ON duroxide_activities (cause) WHERE cause IS NOT NULL;

DROP VIEW duroxide_v_instances;
CREATE VIEW duroxide_v_instances AS
SELECT i.id, i.name, i.version, i.status, i.execution, i.last_event AS events,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.created_at / 1e6, 'unixepoch') AS created,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.updated_at / 1e6, 'unixepoch') AS updated,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.finished_at / 1e6, 'unixepoch') AS finished,
       i.labels, i.parent, i.suspension, n.name AS node,
       (SELECT count(*) FROM duroxide_messages m WHERE m.instance = i.seq) AS unread,
       i.waits,
       strftime('%Y-%m-%dT%H:%M:%fZ', iif(i.waits IS NULL, NULL, coalesce(i.waits_since, i.created_at)) / 1e6, 'unixepoch')
           AS waits_since,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.waits_until / 1e6, 'unixepoch') AS waits_until, i.cause
FROM duroxide_instances i LEFT JOIN duroxide_nodes n ON n.epoch = i.owner;
