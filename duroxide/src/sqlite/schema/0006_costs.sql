-- The messages for one execution only: they are removed with it, and its timers by their calls. An instance can have many
-- other messages, which are not searched.
DROP INDEX duroxide_messages_call;
CREATE INDEX duroxide_messages_execution ON duroxide_messages (instance, execution, call) WHERE execution IS NOT NULL;
