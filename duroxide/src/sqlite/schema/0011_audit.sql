-- The audit: actions from outside, in the order in which they were written. An entry outlives its instance.
CREATE TABLE duroxide_audit (
    number   INTEGER PRIMARY KEY,
    id       BLOB    NOT NULL,                     -- an entry that is written again is recognised by its id
    time     INTEGER NOT NULL,                     -- by the clock of the client
    actor    TEXT    NOT NULL,
    via      TEXT,
    action   TEXT    NOT NULL,
    instance TEXT,
    reason   TEXT,
    detail   TEXT,
    batch    BLOB
) STRICT;
CREATE UNIQUE INDEX duroxide_audit_id ON duroxide_audit (id);
CREATE INDEX duroxide_audit_time ON duroxide_audit (time);
CREATE INDEX duroxide_audit_instance ON duroxide_audit (instance, number) WHERE instance IS NOT NULL;
CREATE INDEX duroxide_audit_batch ON duroxide_audit (batch, number) WHERE batch IS NOT NULL;
