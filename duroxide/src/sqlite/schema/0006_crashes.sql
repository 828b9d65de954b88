-- The crashes of an item are reset when a build rejects it, and no longer when another build may try it. The items that
-- were rejected before are reset here.
UPDATE duroxide_instances SET crashes = 0, alone = 0, suspect = 0 WHERE status = 'suspended';
UPDATE duroxide_activities SET crashes = 0, alone = 0, suspect = 0 WHERE parked IS NOT NULL;
