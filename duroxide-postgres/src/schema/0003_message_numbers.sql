-- The messages after a number, for an owner that has received those before. Timers have no number.
CREATE INDEX messages_number ON messages (instance, number) WHERE number IS NOT NULL;
