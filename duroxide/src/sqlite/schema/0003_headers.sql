-- The headers of a start are stored in its message, those of an event in its input. The column of messages was always
-- empty.
ALTER TABLE duroxide_messages DROP COLUMN headers;
