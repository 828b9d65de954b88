-- The last report of a node, which its renewals change, for people. JSON: see `NodeReport`.
ALTER TABLE duroxide_nodes ADD COLUMN report TEXT;
-- The last sign of life of a node that has no lock file, and the join of any other.
ALTER TABLE duroxide_nodes ADD COLUMN seen_at INTEGER;
