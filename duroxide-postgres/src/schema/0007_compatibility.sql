-- The first versions of the program that may read, and write, this schema. A migration that only adds leaves them as they are.
ALTER TABLE meta ADD COLUMN reads_from integer NOT NULL DEFAULT 1, ADD COLUMN writes_from integer NOT NULL DEFAULT 1;
