-- Copies of conversations: which one is continued, and the request that asked for it, to answer its repetition.
ALTER TABLE sessions ADD COLUMN forked_from TEXT;   -- a copy has `last_execution` once Claude has made it
ALTER TABLE sessions ADD COLUMN fork_asked TEXT;    -- the one that was named: itself a copy, maybe, that nobody had begun
ALTER TABLE sessions ADD COLUMN fork_actor TEXT;
ALTER TABLE sessions ADD COLUMN fork_key TEXT;
CREATE UNIQUE INDEX sessions_fork_key ON sessions(fork_actor, fork_key) WHERE fork_key IS NOT NULL;
