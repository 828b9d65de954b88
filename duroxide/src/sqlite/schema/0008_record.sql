-- The places of calls in the source. An event names its place by the number here: there are few places and many events.
CREATE TABLE duroxide_places (
    id   INTEGER PRIMARY KEY,
    text TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX duroxide_places_text ON duroxide_places (text);
ALTER TABLE duroxide_events ADD COLUMN place INTEGER;
