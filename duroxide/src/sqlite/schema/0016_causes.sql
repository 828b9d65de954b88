-- A rejected activity has two causes: of its rejection, which it shows in `cause` while it is parked, and of its last failed
-- attempt. The one that it does not show is kept here.
ALTER TABLE duroxide_activities ADD COLUMN other_cause TEXT;
-- So far there was one cause: an activity that is parked again keeps it.
UPDATE duroxide_activities SET other_cause = cause WHERE rejected IS NOT NULL AND parked IS NULL;
