-- Events that were raised within transactions of programs. A node's process delivers them, in their order.
CREATE TABLE outbox (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance bigint NOT NULL,
    id       uuid NOT NULL,                          -- of the message
    sent_at  bigint NOT NULL,
    format   integer NOT NULL,
    data     text COLLATE "C" NOT NULL,
    payload  bytea,                                  -- NULL: JSON's null
    refused  text COLLATE "C",                       -- the instance had finished with this status, or was removed: 'none'
    time     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_waiting ON outbox (seq) WHERE refused IS NULL;
CREATE INDEX outbox_refused ON outbox (time) WHERE refused IS NOT NULL;
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
