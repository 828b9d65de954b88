-- Stores an event for a live instance in the outbox. $1 id of the instance, $2 id of the message, $3 time, $4 format, $5 data,
-- $6 payload, $7 notice.
WITH target AS (
    SELECT i.seq, i.status, EXISTS (SELECT 1 FROM SCHEMA.live l WHERE l.seq = i.seq) AS is_live
    FROM SCHEMA.instances i WHERE i.id = $1),
new AS (
    INSERT INTO SCHEMA.outbox (instance, id, sent_at, format, data, payload)
    SELECT seq, $2, $3, $4, $5, $6 FROM target WHERE is_live RETURNING 1),
notified AS (SELECT pg_notify('CHANNEL', $7) FROM new WHERE $7::text IS NOT NULL)
SELECT CASE WHEN is_live THEN 'raised' ELSE status END FROM target WHERE (SELECT count(*) FROM notified) >= 0
