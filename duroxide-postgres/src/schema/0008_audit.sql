-- The audit: actions from outside, in the order in which they were written. An entry outlives its instance.
CREATE TABLE audit (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       uuid NOT NULL,                          -- an entry that is written again is recognised by its id
    time     bigint NOT NULL,                        -- by the clock of the client
    actor    text COLLATE "C" NOT NULL,
    via      text COLLATE "C",
    action   text COLLATE "C" NOT NULL,
    instance text COLLATE "C",
    reason   text COLLATE "C",
    detail   text COLLATE "C",
    batch    uuid
);
CREATE UNIQUE INDEX audit_id ON audit (id);
CREATE INDEX audit_time ON audit (time);
CREATE INDEX audit_instance ON audit (instance, number) WHERE instance IS NOT NULL;
CREATE INDEX audit_batch ON audit (batch, number) WHERE batch IS NOT NULL;
