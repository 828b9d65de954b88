-- The queue of activities, by name, tag and time: a claim reads the ranges of those without a tag, and of the tags that its
-- node serves. Those with a tag are also in an index by name and time, for nodes that serve all tags. An activity without a
-- tag is in one index, as before.
DROP INDEX duroxide_activities_queue;
CREATE INDEX duroxide_activities_queue ON duroxide_activities (name, tag, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND (crashes < 3 OR suspect = 1);
CREATE INDEX duroxide_activities_queue_tagged ON duroxide_activities (name, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND (crashes < 3 OR suspect = 1) AND tag IS NOT NULL;
DROP INDEX duroxide_activities_quarantined;
CREATE INDEX duroxide_activities_quarantined ON duroxide_activities (name, tag, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND crashes >= 3 AND suspect = 0;
CREATE INDEX duroxide_activities_quarantined_tagged ON duroxide_activities (name, visible_at)
    WHERE owner IS NULL AND parked IS NULL AND crashes >= 3 AND suspect = 0 AND tag IS NOT NULL;
