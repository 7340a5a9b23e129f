-- What people and programs are told: one row a message, and one for each target it goes to.
CREATE TABLE notifications (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL,
  dedupe     TEXT NOT NULL,              -- the same key is the same thing
  project    TEXT,
  execution  TEXT,
  subject    TEXT,                       -- the id of what is asked
  title      TEXT NOT NULL,
  text       TEXT NOT NULL,
  hint       TEXT NOT NULL,
  payload    TEXT,                       -- what a webhook gets (JSON); NULL = for people
  repeats    INTEGER NOT NULL DEFAULT 0, -- how often the same came again and was not told
  created_us INTEGER NOT NULL
) STRICT;
CREATE INDEX notifications_same ON notifications(dedupe, created_us);
CREATE INDEX notifications_subject ON notifications(subject) WHERE subject IS NOT NULL;
CREATE INDEX notifications_age ON notifications(created_us);

CREATE TABLE deliveries (
  notification TEXT NOT NULL REFERENCES notifications(id) ON DELETE CASCADE,
  target     TEXT NOT NULL,              -- a hash: the address itself holds secrets
  label      TEXT NOT NULL,
  kind       TEXT NOT NULL,
  state      TEXT NOT NULL,              -- pending, held, sent, failed or moot
  attempts   INTEGER NOT NULL DEFAULT 0,
  next_us    INTEGER NOT NULL,           -- when it is tried (next)
  error      TEXT NOT NULL DEFAULT '',
  sent_us    INTEGER,
  PRIMARY KEY (notification, target)
) STRICT;
CREATE INDEX deliveries_open ON deliveries(next_us) WHERE state IN ('pending', 'held');
CREATE INDEX deliveries_sent ON deliveries(target, kind, sent_us) WHERE state = 'sent';

-- What ended between two moments: the summary.
CREATE INDEX executions_ended ON executions(ended_us) WHERE ended_us IS NOT NULL;
CREATE INDEX approvals_decided ON approvals(decided_us) WHERE decided_us IS NOT NULL;
