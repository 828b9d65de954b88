-- The reason of a pause, as JSON, while a client has suspended the instance; and the time at which it ends by itself. Such an
-- instance has a row in `ready` with that time.
ALTER TABLE live ADD COLUMN paused text COLLATE "C", ADD COLUMN paused_until bigint;
ALTER TABLE ready ADD COLUMN paused boolean NOT NULL DEFAULT false;

CREATE OR REPLACE VIEW v_instances AS
SELECT i.id, i.name, coalesce(l.version, i.version) AS version, i.status, coalesce(l.execution, i.execution) AS execution,
       coalesce(l.last_event, i.last_event) AS events,
       to_timestamp(i.created_at / 1e6) AS created, to_timestamp(coalesce(l.updated_at, i.updated_at) / 1e6) AS updated,
       to_timestamp(i.finished_at / 1e6) AS finished, i.labels, i.parent, coalesce(l.paused, l.rejected) AS suspension,
       n.name AS node,
       (SELECT count(*) FROM messages m WHERE m.instance = i.seq) AS unread,
       l.waits, to_timestamp(l.waits_since / 1e6) AS waits_since, to_timestamp(l.waits_until / 1e6) AS waits_until,
       coalesce(l.cause, i.cause) AS cause
FROM instances i LEFT JOIN live l ON l.seq = i.seq LEFT JOIN nodes n ON n.epoch = l.owner;
