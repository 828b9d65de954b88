-- A rejected activity has two causes: of its rejection, which it shows in `cause` while it is parked, and of its last failed
-- attempt. The one that it does not show is kept here.
ALTER TABLE activities ADD COLUMN other_cause text COLLATE "C";
-- So far there was one cause: an activity that is parked again keeps it.
UPDATE activities SET other_cause = cause WHERE rejected IS NOT NULL AND NOT parked;
