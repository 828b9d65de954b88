-- The free places of a node, as it last told: for instances, and for activities. A notification of work goes to a node with
-- many.
ALTER TABLE nodes ADD COLUMN room integer, ADD COLUMN permits integer;
