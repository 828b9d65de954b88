-- The reason of a pause, as JSON, while a client has suspended the instance. If the pause ends by itself, `ready_at` is that
-- time. It has no effect on an instance that has finished.
ALTER TABLE duroxide_instances ADD COLUMN paused TEXT;

DROP VIEW duroxide_v_instances;
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
