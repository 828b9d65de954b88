-- The queue of activities, by name, tag and time: a claim reads the ranges of those without a tag, and of the tags that its node
-- serves. Those with a tag are also in an index by name and time, for nodes that serve all tags. An activity without a tag is in
-- one index, as before.
DROP INDEX activities_queue;
CREATE INDEX activities_queue ON activities (name, (coalesce(tag, '')), ready_at)
    WHERE owner IS NULL AND NOT parked AND (crashes < 3 OR suspect);
CREATE INDEX activities_queue_tagged ON activities (name, ready_at)
    WHERE owner IS NULL AND NOT parked AND (crashes < 3 OR suspect) AND tag IS NOT NULL;
DROP INDEX activities_quarantined;
CREATE INDEX activities_quarantined ON activities (name, (coalesce(tag, '')), ready_at)
    WHERE owner IS NULL AND NOT parked AND crashes >= 3 AND NOT suspect;
CREATE INDEX activities_quarantined_tagged ON activities (name, ready_at)
    WHERE owner IS NULL AND NOT parked AND crashes >= 3 AND NOT suspect AND tag IS NOT NULL;
