-- The first schema. Times are microseconds since the epoch, JSON columns hold objects, ids are text.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE projects (
  id          TEXT PRIMARY KEY,
  name        TEXT NOT NULL UNIQUE,
  path        TEXT NOT NULL UNIQUE,
  dev         INTEGER NOT NULL,
  ino         INTEGER NOT NULL,
  trust_hash  TEXT,                         -- what was trusted; NULL = untrusted
  trust_broken INTEGER NOT NULL DEFAULT 0,  -- files changed since
  defaults    TEXT NOT NULL,
  env         TEXT NOT NULL,
  version     INTEGER NOT NULL DEFAULT 1,
  session     TEXT,                         -- Claude's current conversation
  state       TEXT NOT NULL DEFAULT 'idle', -- as last announced
  error       TEXT,
  executions  INTEGER NOT NULL DEFAULT 0,
  input_tokens  INTEGER NOT NULL DEFAULT 0,
  output_tokens INTEGER NOT NULL DEFAULT 0,
  cost_usd    REAL NOT NULL DEFAULT 0,
  created_us  INTEGER NOT NULL,
  activity_us INTEGER NOT NULL
) STRICT;

-- A lane carries one live execution at a time: a project, or (later) a project and a worktree. It carries
-- its head, so that claiming never looks at what waits behind a busy lane.
CREATE TABLE lanes (
  lane      TEXT PRIMARY KEY,
  project   TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
  busy      INTEGER NOT NULL DEFAULT 0,
  paused    INTEGER NOT NULL DEFAULT 0,
  head_rank INTEGER,
  head      TEXT
) STRICT;
CREATE INDEX lanes_free ON lanes(head_rank, head) WHERE busy = 0 AND paused = 0 AND head IS NOT NULL;

CREATE TABLE orders (
  id          TEXT PRIMARY KEY,
  project     TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
  lane        TEXT NOT NULL,
  state       TEXT NOT NULL,
  priority    TEXT NOT NULL DEFAULT 'normal',
  rank        INTEGER NOT NULL,             -- queued_at minus the priority's boost: a static key that ages
  attempt     INTEGER NOT NULL DEFAULT 0,
  retries     INTEGER NOT NULL DEFAULT 0,
  retry_count INTEGER NOT NULL DEFAULT 0,
  not_before_us INTEGER,
  prompt      TEXT NOT NULL,
  prompt_uuid TEXT NOT NULL,
  session     TEXT NOT NULL,                -- current, new, or an id
  fork        INTEGER NOT NULL DEFAULT 0,
  options     TEXT NOT NULL,
  actor       TEXT NOT NULL,
  created_us  INTEGER NOT NULL,
  ended_us    INTEGER
) STRICT;
CREATE INDEX orders_waiting ON orders(lane, rank, id) WHERE state = 'queued';
CREATE INDEX orders_rank ON orders(rank, id) WHERE state = 'queued';
CREATE INDEX orders_project ON orders(project);

CREATE TABLE idempotency (
  actor      TEXT NOT NULL,
  key        TEXT NOT NULL,
  hash       TEXT NOT NULL,
  order_id   TEXT NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
  created_us INTEGER NOT NULL,
  PRIMARY KEY (actor, key)
) STRICT;

CREATE TABLE executions (
  id          TEXT PRIMARY KEY,
  order_id    TEXT NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
  project     TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
  lane        TEXT NOT NULL,
  process     TEXT,
  state       TEXT NOT NULL,
  attempt     INTEGER NOT NULL,
  session     TEXT,
  resume      INTEGER NOT NULL DEFAULT 0,
  fork_from   TEXT,
  model       TEXT,
  pid         INTEGER,
  trusted     INTEGER NOT NULL DEFAULT 0,
  actor       TEXT NOT NULL,
  options     TEXT NOT NULL,
  verdict     TEXT,                          -- what Claude said of its turn (JSON)
  evidence    TEXT NOT NULL DEFAULT '{}',    -- API errors and limits it reported (JSON)
  stalled     TEXT,
  retrying    TEXT,
  stop_mode   TEXT,
  stop_reason TEXT,
  stop_by     TEXT,
  stop_note   TEXT,                          -- what the one who stopped it said
  applied_end INTEGER NOT NULL DEFAULT 0,    -- output up to here has had its effects: makes reading it again harmless
  waiting_since_us INTEGER,
  waited_us   INTEGER NOT NULL DEFAULT 0,
  cause       TEXT,
  message     TEXT NOT NULL DEFAULT '',
  exit_code   INTEGER,
  signal      INTEGER,
  subtype     TEXT,
  result      TEXT,
  structured  TEXT,
  stderr      TEXT NOT NULL DEFAULT '',
  resets_at   INTEGER,
  survivors   INTEGER NOT NULL DEFAULT 0,
  usage       TEXT NOT NULL DEFAULT '{}',
  cost_usd    REAL NOT NULL DEFAULT 0,
  created_us  INTEGER NOT NULL,
  started_us  INTEGER,
  ended_us    INTEGER
) STRICT;
CREATE UNIQUE INDEX executions_one_a_lane ON executions(lane) WHERE state IN ('starting', 'running', 'waiting');
CREATE INDEX executions_live ON executions(state) WHERE state IN ('pending', 'starting', 'running', 'waiting');
CREATE INDEX executions_project ON executions(project, id);
CREATE INDEX executions_order ON executions(order_id, attempt);
CREATE INDEX executions_session ON executions(session) WHERE session IS NOT NULL;

CREATE TABLE sessions (
  id          TEXT PRIMARY KEY,
  project     TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
  state       TEXT NOT NULL,
  model       TEXT,
  executions  INTEGER NOT NULL DEFAULT 0,
  last_execution TEXT,
  cost_usd    REAL NOT NULL DEFAULT 0,
  created_us  INTEGER NOT NULL,
  activity_us INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_project ON sessions(project, activity_us);

CREATE TABLE approvals (
  id          TEXT PRIMARY KEY,
  execution   TEXT NOT NULL REFERENCES executions(id) ON DELETE CASCADE,
  project     TEXT NOT NULL,
  request     TEXT NOT NULL,
  kind        TEXT NOT NULL,                 -- permission or question
  tool        TEXT NOT NULL,
  input       TEXT NOT NULL,
  description TEXT NOT NULL,
  suggestions TEXT NOT NULL,
  state       TEXT NOT NULL,                 -- pending, decided or withdrawn
  version     INTEGER NOT NULL DEFAULT 1,
  decision    TEXT,
  answer      TEXT,                          -- what Claude is to hear (JSON)
  message     TEXT NOT NULL DEFAULT '',
  decided_by  TEXT,
  is_delivered INTEGER NOT NULL DEFAULT 0,
  created_us  INTEGER NOT NULL,
  decided_us  INTEGER,
  UNIQUE (execution, request)
) STRICT;
CREATE INDEX approvals_pending ON approvals(id) WHERE state = 'pending';

CREATE TABLE policies (
  id         TEXT PRIMARY KEY,
  position   INTEGER NOT NULL,
  action     TEXT NOT NULL,
  tool       TEXT NOT NULL,
  match      TEXT NOT NULL,
  project    TEXT REFERENCES projects(id) ON DELETE CASCADE,
  note       TEXT NOT NULL DEFAULT '',
  created_by TEXT NOT NULL,
  created_us INTEGER NOT NULL
) STRICT;

-- Events that were committed with the change they report and are on their way into the log.
CREATE TABLE outbox (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  stream    TEXT NOT NULL,
  ts        INTEGER NOT NULL,
  type      TEXT NOT NULL,
  execution TEXT,
  session   TEXT,
  request   TEXT,
  actor     TEXT,
  data      BLOB NOT NULL
) STRICT;

-- Who changed what. Each row's hash covers the row and the hash before it.
CREATE TABLE audit (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  at_us    INTEGER NOT NULL,
  body     TEXT NOT NULL,
  hash     TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
