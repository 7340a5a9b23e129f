-- What was used, who may use how much. Money is US dollars.

-- What Claude has said of its running turn, message by message: dropped when it states the turn's sum, turned
-- into spend when it never does. Each message has one row however often its figures come.
CREATE TABLE usage_messages (
  execution   TEXT NOT NULL REFERENCES executions(id) ON DELETE CASCADE,
  message     TEXT NOT NULL,                 -- Claude's id of it
  model       TEXT NOT NULL,
  input_tokens          INTEGER NOT NULL,
  output_tokens         INTEGER NOT NULL,    -- as stated: what the stream began with, unless is_final
  said_tokens           INTEGER NOT NULL,    -- as measured by what it says
  cache_read_tokens     INTEGER NOT NULL,
  cache_creation_tokens INTEGER NOT NULL,
  is_final    INTEGER NOT NULL,
  PRIMARY KEY (execution, message)
) STRICT, WITHOUT ROWID;

-- What a token of a model costs where Claude does not say it: US dollars a million.
CREATE TABLE usage_prices (
  model          TEXT PRIMARY KEY,
  input          REAL NOT NULL,
  output         REAL NOT NULL,
  cache_read     REAL NOT NULL,
  cache_creation REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The messages of running turns with what they cost.
CREATE VIEW usage_open AS
SELECT m.execution, e.project, e.actor, m.model, m.input_tokens, m.output, m.cache_read_tokens, m.cache_creation_tokens,
  (m.input_tokens * p.input + m.output * p.output + m.cache_read_tokens * p.cache_read
   + m.cache_creation_tokens * p.cache_creation) / 1e6 AS cost_usd
FROM (SELECT *, CASE WHEN is_final THEN output_tokens ELSE max(output_tokens, said_tokens) END AS output FROM usage_messages) m
JOIN executions e ON e.id = m.execution LEFT JOIN usage_prices p ON p.model = m.model;

-- Running totals of a process, for versions of Claude that state nothing else: what the next result is
-- compared with, also by another daemon.
CREATE TABLE usage_totals (
  process  TEXT NOT NULL,
  model    TEXT NOT NULL,
  input_tokens          INTEGER NOT NULL,
  output_tokens         INTEGER NOT NULL,
  cache_read_tokens     INTEGER NOT NULL,
  cache_creation_tokens INTEGER NOT NULL,
  cost_usd REAL NOT NULL,
  at_us    INTEGER NOT NULL,
  PRIMARY KEY (process, model)
) STRICT, WITHOUT ROWID;

-- The account book. Rows stay when their execution or project is deleted: a budget is not won back so.
CREATE TABLE spend (
  id         INTEGER PRIMARY KEY,
  at_us      INTEGER NOT NULL,
  day        TEXT NOT NULL,                  -- of the calendar where the daemon runs
  execution  TEXT NOT NULL,
  project    TEXT NOT NULL,
  actor      TEXT NOT NULL,
  model      TEXT NOT NULL,
  input_tokens          INTEGER NOT NULL DEFAULT 0,
  output_tokens         INTEGER NOT NULL DEFAULT 0,
  cache_read_tokens     INTEGER NOT NULL DEFAULT 0,
  cache_creation_tokens INTEGER NOT NULL DEFAULT 0,
  cost_usd   REAL NOT NULL DEFAULT 0,
  active_ms  INTEGER NOT NULL DEFAULT 0,
  is_estimate INTEGER NOT NULL DEFAULT 0,    -- worked out from messages: Claude did not live to state it
  source     TEXT NOT NULL                   -- result, messages, time, or earlier (before there was this table)
) STRICT;
CREATE INDEX spend_project ON spend(project, day);
CREATE INDEX spend_actor ON spend(actor, day);
CREATE INDEX spend_execution ON spend(execution);
CREATE INDEX spend_day ON spend(day);
CREATE INDEX spend_at ON spend(at_us);
CREATE INDEX spend_model ON spend(model, id) WHERE source = 'result';

INSERT INTO spend(at_us, day, execution, project, actor, model, input_tokens, output_tokens, cache_read_tokens,
  cache_creation_tokens, cost_usd, active_ms, source)
SELECT coalesce(ended_us, created_us), date(coalesce(ended_us, created_us) / 1000000, 'unixepoch', 'localtime'), id,
  project, actor, coalesce(model, ''), coalesce(usage ->> 'input_tokens', 0), coalesce(usage ->> 'output_tokens', 0),
  coalesce(usage ->> 'cache_read_tokens', 0), coalesce(usage ->> 'cache_creation_tokens', 0), cost_usd,
  CASE WHEN ended_us IS NULL OR started_us IS NULL THEN 0
       ELSE max(0, (ended_us - started_us - waited_us) / 1000) END,
  'earlier'
FROM executions WHERE process IS NOT NULL;

ALTER TABLE executions ADD COLUMN cost_is_estimate INTEGER NOT NULL DEFAULT 0;

-- Whose work is not started, and until when: what a claim asks.
CREATE TABLE budget_blocks (
  scope    TEXT NOT NULL,                    -- project or user
  key      TEXT NOT NULL,
  kind     TEXT NOT NULL,                    -- usd, tokens or minutes
  until_us INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  PRIMARY KEY (scope, key, kind)
) STRICT, WITHOUT ROWID;

-- What was told already, so that it is told once.
CREATE TABLE budget_marks (
  scope  TEXT NOT NULL,
  key    TEXT NOT NULL,
  kind   TEXT NOT NULL,
  day    TEXT NOT NULL,
  level  TEXT NOT NULL,                      -- warning or exceeded
  amount REAL NOT NULL,                      -- the limit it was told for
  PRIMARY KEY (scope, key, kind, day, level, amount)
) STRICT, WITHOUT ROWID;
