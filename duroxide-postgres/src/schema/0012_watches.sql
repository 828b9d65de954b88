-- The processes that wait for a change of an instance, each by the channel on which it listens. A change removes the row and is
-- told to the process, which watches again if it still waits. A row whose process is gone ends with its time.
--
-- Not logged: after a crash of the server all processes connect, and watch, again.
CREATE UNLOGGED TABLE watches (
    instance text COLLATE "C" NOT NULL,
    listener uuid             NOT NULL,
    until    timestamptz      NOT NULL,
    PRIMARY KEY (instance, listener)
);
CREATE INDEX watches_until ON watches (until);
