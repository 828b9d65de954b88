-- Lists walk the instances by `seq`, the order of arrival. Completed ones are most of a large database, and are found by that
-- order alone; the few others have an index. Those that a node owns all run, and are found by their owner: so an instance
-- that starts, runs and completes on one node never enters the index, and costs it no write.
DROP INDEX duroxide_instances_created;
DROP INDEX duroxide_instances_suspended;
CREATE INDEX duroxide_instances_live ON duroxide_instances (status, seq, name)
    WHERE owner IS NULL AND status <> 'completed';
