-- Approvals that do not wait for ever, and how much harm a call could do.
ALTER TABLE policies ADD COLUMN timeout_s REAL;     -- of a rule that asks: how long a person has
ALTER TABLE policies ADD COLUMN on_timeout TEXT;    -- wait, deny or allow

ALTER TABLE approvals ADD COLUMN rule TEXT;         -- the rule that wants a person asked; NULL: no rule matched
ALTER TABLE approvals ADD COLUMN expires_us INTEGER;  -- NULL: it waits until somebody answers
ALTER TABLE approvals ADD COLUMN on_timeout TEXT;   -- what happens then: deny or allow
ALTER TABLE approvals ADD COLUMN timed_out INTEGER NOT NULL DEFAULT 0;  -- decided because nobody answered in time
ALTER TABLE approvals ADD COLUMN risk TEXT NOT NULL DEFAULT 'medium';   -- low, medium or high
ALTER TABLE approvals ADD COLUMN risk_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN directory TEXT NOT NULL DEFAULT '';    -- where Claude works
CREATE INDEX approvals_expiring ON approvals(expires_us) WHERE state = 'pending' AND expires_us IS NOT NULL;
