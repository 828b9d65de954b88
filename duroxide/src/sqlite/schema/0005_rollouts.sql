-- The builds that have rejected an instance (`execution` and `call` are zero) or one of its activities. A rejected item
-- runs on until each build among the members has rejected it; then it is suspended or parked. A running instance with a
-- `suspension`, and an activity with `rejected` that is not parked, are left to the other builds.
CREATE TABLE duroxide_rejections (
    instance  INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    call      INTEGER NOT NULL,
    build     TEXT    NOT NULL,
    PRIMARY KEY (instance, execution, call, build)
) STRICT, WITHOUT ROWID;
ALTER TABLE duroxide_activities ADD COLUMN rejected TEXT;                        -- the reason of the last build
UPDATE duroxide_activities SET rejected = parked;
INSERT INTO duroxide_rejections (instance, execution, call, build)
    SELECT t.instance, 0, 0, t.build FROM duroxide_resume_attempts t
    JOIN duroxide_instances i ON i.seq = t.instance AND i.status = 'suspended'
    UNION ALL
    SELECT a.instance, a.execution, a.call, t.build FROM duroxide_resume_attempts t
    JOIN duroxide_activities a ON a.instance = t.instance AND a.parked IS NOT NULL;
DROP TABLE duroxide_resume_attempts;
-- The crashes of an item are reset when a build rejects it, and no longer when another build may try it. The items that
-- were rejected before are reset here.
UPDATE duroxide_instances SET crashes = 0, alone = 0, suspect = 0 WHERE status = 'suspended';
UPDATE duroxide_activities SET crashes = 0, alone = 0, suspect = 0 WHERE parked IS NOT NULL;
