-- For people: the failed attempts that were repeated. Not read by the program.
CREATE VIEW v_attempts AS
SELECT i.id AS instance, a.execution, a.call, a.attempt, a.node, to_timestamp(a.began / 1e6) AS began,
       to_timestamp(a.ended / 1e6) AS ended, to_timestamp(a.next_at / 1e6) AS next, a.error
FROM attempts a JOIN instances i ON i.seq = a.instance;
