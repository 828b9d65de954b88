-- Lists scan the instances by `seq`, the order of arrival. Completed instances are the majority of a large database and
-- are found by that order alone; the few others have an index. Owned instances are all running and are found by their
-- owner. So an instance that starts, runs and completes on one node never enters the index and causes no write to it.
DROP INDEX duroxide_instances_created;
DROP INDEX duroxide_instances_suspended;
CREATE INDEX duroxide_instances_live ON duroxide_instances (status, seq, name)
    WHERE owner IS NULL AND status <> 'completed';
