-- The session of a node's process holds a lock for the node since this time; NULL: it holds none.
ALTER TABLE nodes ADD COLUMN session_since timestamptz;
-- Another node has found that lock free.
ALTER TABLE nodes ADD COLUMN released_at timestamptz;
