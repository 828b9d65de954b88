-- The start of the server on which the session of the node's process holds a lock for the node, in microseconds; NULL: it holds
-- none.
ALTER TABLE nodes ADD COLUMN session_on bigint;
-- Another node has found that lock free.
ALTER TABLE nodes ADD COLUMN released_at timestamptz;
