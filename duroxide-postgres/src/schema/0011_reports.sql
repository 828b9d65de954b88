-- The last report of a node, which its renewals change, for people. JSON: see `NodeReport`.
ALTER TABLE nodes ADD COLUMN report text COLLATE "C";
