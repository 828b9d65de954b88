-- For people: the place of a call in the source, and the failed attempts.
DROP VIEW duroxide_v_history;
CREATE VIEW duroxide_v_history AS
SELECT i.id AS instance, e.execution, e.id AS event,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.time / 1e6, 'unixepoch') AS time,
       iif(e.decision, 'decision', 'input') AS kind, e.data,
       coalesce(CAST(coalesce(e.payload, p.data) AS TEXT), 'null') AS payload,
       (SELECT s.text FROM duroxide_places s WHERE s.id = e.place) AS place
FROM duroxide_events e
JOIN duroxide_instances i ON i.seq = e.instance
LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref;

CREATE VIEW duroxide_v_attempts AS
SELECT i.id AS instance, a.execution, a.call, a.attempt, a.node,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.began / 1e6, 'unixepoch') AS began,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.ended / 1e6, 'unixepoch') AS ended,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.next_at / 1e6, 'unixepoch') AS next, a.error
FROM duroxide_attempts a JOIN duroxide_instances i ON i.seq = a.instance;
