-- The headers of a start are within its message, those of an event within its input: no message has any beside them.
ALTER TABLE duroxide_messages DROP COLUMN headers;
