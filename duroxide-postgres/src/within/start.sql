-- Creates an instance without an owner, with the message that starts it. $1 id, $2 identity, $3 name, $4 version, $5 time,
-- $6 labels, $7 labels for finding, $8 time of the message, $9 format, $10 data, $11 payload, $12 ready_at, $13 notice.
WITH new AS (
    INSERT INTO SCHEMA.instances (seq, id, identity, name, version, created_at, updated_at, labels)
    VALUES (nextval('SCHEMA.arrivals'), $1, $2, $3, $4, $5, $5, $6)
    ON CONFLICT (id) DO NOTHING RETURNING seq),
new_live AS (
    INSERT INTO SCHEMA.live (seq, id, identity, name, version, execution, last_event, claim, arrivals, stored, crashes,
        alone, suspect, suspended, updated_at)
    SELECT seq, $1, $2, $3, $4, 1, 0, 0, CASE WHEN $8::bigint IS NULL THEN 1 ELSE 0 END, 1, 0, false, false, false, $5
    FROM new),
new_message AS (
    INSERT INTO SCHEMA.messages (instance, id, arrival, number, lane, visible_at, arrived_at, sent, format, data, payload)
    SELECT seq, $2, 1, CASE WHEN $8::bigint IS NULL THEN 1 END, 0, $8, $5, false, $9, $10, $11 FROM new),
new_ready AS (
    INSERT INTO SCHEMA.ready (seq, name, version, ready_at, crashes, suspect, rejected)
    SELECT seq, $3, coalesce($4, ''), $12, 0, false, false FROM new),
new_labels AS (
    INSERT INTO SCHEMA.labels (name, value, instance)
    SELECT l.key, l.value, new.seq FROM new, json_each_text($7::json) AS l),
notified AS (SELECT pg_notify('CHANNEL', $13) FROM new WHERE $13::text IS NOT NULL)
SELECT (SELECT count(*) FROM new)::text AS created WHERE (SELECT count(*) FROM notified) >= 0
