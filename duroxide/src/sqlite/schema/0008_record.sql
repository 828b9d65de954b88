-- The places of calls in the source. An event names its place by the number here: there are few places and many events.
CREATE TABLE duroxide_places (
    id   INTEGER PRIMARY KEY,
    text TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX duroxide_places_text ON duroxide_places (text);
ALTER TABLE duroxide_events ADD COLUMN place INTEGER;

-- Failed attempts that were repeated: of each call, the first and the last ones.
CREATE TABLE duroxide_attempts (
    instance  INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    call      INTEGER NOT NULL,
    attempt   INTEGER NOT NULL,
    node      INTEGER NOT NULL,                    -- the epoch of the node that ran it
    began     INTEGER NOT NULL,
    ended     INTEGER NOT NULL,
    next_at   INTEGER NOT NULL,
    error     TEXT    NOT NULL,
    PRIMARY KEY (instance, execution, call, attempt)
) STRICT, WITHOUT ROWID;
