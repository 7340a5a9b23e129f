-- Conversations that end (keep-alive), and processes that carry several executions (a warm session).
ALTER TABLE sessions ADD COLUMN opened_us INTEGER NOT NULL DEFAULT 0;  -- begun, or resumed after it had ended
ALTER TABLE sessions ADD COLUMN ended_us INTEGER;
ALTER TABLE sessions ADD COLUMN end_reason TEXT;                       -- idle, age or user
UPDATE sessions SET opened_us = created_us;
CREATE INDEX sessions_idle ON sessions(activity_us) WHERE state = 'idle';
CREATE INDEX executions_open ON executions(project) WHERE state IN ('pending', 'starting', 'running', 'waiting');

ALTER TABLE executions ADD COLUMN output_start INTEGER NOT NULL DEFAULT 0;  -- where its part of the process's output begins
