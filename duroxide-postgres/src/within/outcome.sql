-- Ends a tenure, and delivers its outcome to the instance, which is locked. $1 id, $2 identity, $3 execution, $4 call, $5 owner,
-- $6 attempt, $7 claim, $8 id of the message, $9 time, $10 format, $11 data, $12 payload, $13 ready_at.
WITH ended AS (
    DELETE FROM SCHEMA.activities a USING SCHEMA.instances i
    WHERE i.id = $1 AND i.identity = $2 AND a.instance = i.seq AND a.execution = $3 AND a.call = $4 AND a.owner = $5
        AND a.attempt = $6 AND a.claim = $7
    RETURNING a.instance),
target AS (
    UPDATE SCHEMA.live l SET arrivals = l.arrivals + 1, stored = l.stored + 1 FROM ended e
    WHERE l.seq = e.instance AND l.execution = $3
    RETURNING l.seq, l.owner, l.name, l.version, l.crashes, l.suspect, l.suspended, l.rejected, l.arrivals, l.stored),
new_message AS (
    INSERT INTO SCHEMA.messages (instance, id, arrival, number, lane, execution, call, arrived_at, sent, format, data, payload)
    SELECT seq, $8, stored, arrivals, 2, $3, $4, $9, false, $10, $11, $12 FROM target),
mailed AS (
    INSERT INTO SCHEMA.mail (owner, instance, upto) SELECT owner, seq, arrivals FROM target WHERE owner IS NOT NULL
    ON CONFLICT (owner, instance) DO UPDATE SET upto = greatest(mail.upto, excluded.upto)),
queued AS (
    INSERT INTO SCHEMA.ready (seq, name, version, ready_at, crashes, suspect, rejected)
    SELECT seq, name, coalesce(version, ''), $13, crashes, suspect, rejected IS NOT NULL
    FROM target WHERE owner IS NULL AND NOT suspended
    ON CONFLICT (seq) DO UPDATE SET ready_at = least(ready.ready_at, excluded.ready_at))
SELECT coalesce((SELECT json_build_array(owner, name, version, suspended) FROM target), '[]')::text FROM ended
