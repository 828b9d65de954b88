-- Lists walk the instances by `seq`, the order of arrival. Completed ones are most of a large database, and are found by that
-- order alone; the few others have an index.
DROP INDEX duroxide_instances_created;
DROP INDEX duroxide_instances_suspended;
CREATE INDEX duroxide_instances_live ON duroxide_instances (status, seq, name) WHERE status <> 'completed';
