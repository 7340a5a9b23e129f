-- The queue made whole: what holds an order back, retries, dependencies, pauses, parked accounts, workers.
ALTER TABLE orders ADD COLUMN pool TEXT NOT NULL DEFAULT 'claude';   -- which workers may carry it
ALTER TABLE orders ADD COLUMN hold TEXT;                             -- why it may not be claimed yet; NULL = ready
ALTER TABLE orders ADD COLUMN account TEXT NOT NULL DEFAULT '';      -- whose usage limit it counts against
ALTER TABLE orders ADD COLUMN on_usage_limit TEXT;                   -- park, resume or fail; NULL = the setting
ALTER TABLE orders ADD COLUMN resumptions INTEGER NOT NULL DEFAULT 0;-- taken up again after a usage limit
ALTER TABLE orders ADD COLUMN is_idempotent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN message TEXT NOT NULL DEFAULT '';      -- why it was put back, or given up

DROP INDEX orders_waiting;
DROP INDEX orders_rank;
CREATE INDEX orders_waiting ON orders(lane, rank, id) WHERE state = 'queued' AND hold IS NULL;
CREATE INDEX orders_rank ON orders(rank, id) WHERE state = 'queued' AND hold IS NULL;
CREATE INDEX orders_queued ON orders(rank, id) WHERE state = 'queued';
CREATE INDEX orders_priority ON orders(priority, rank) WHERE state = 'queued' AND hold IS NULL;
CREATE INDEX orders_due ON orders(not_before_us) WHERE state = 'queued' AND not_before_us IS NOT NULL;
CREATE INDEX orders_held ON orders(hold) WHERE state = 'queued' AND hold IS NOT NULL;
CREATE INDEX orders_state ON orders(state, id);
CREATE INDEX idempotency_order ON idempotency(order_id);             -- for those who delete orders

-- What an order waits for: only while it does.
CREATE TABLE order_needs (
  order_id TEXT NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
  needs    TEXT NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
  is_any   INTEGER NOT NULL DEFAULT 0,       -- however that ends; else only when it is completed
  PRIMARY KEY (order_id, needs)
) STRICT, WITHOUT ROWID;
CREATE INDEX order_needs_by_need ON order_needs(needs);

-- `paused` is a set of bits (store/lanes.py): a person's pause, a parked account, a budget used up.
ALTER TABLE lanes ADD COLUMN pool TEXT NOT NULL DEFAULT 'claude';
ALTER TABLE lanes ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE lanes ADD COLUMN head_actor TEXT;
DROP INDEX lanes_free;
CREATE INDEX lanes_free ON lanes(pool, head_rank, head) WHERE busy = 0 AND paused = 0 AND head IS NOT NULL;
CREATE INDEX lanes_project ON lanes(project);
CREATE INDEX lanes_account ON lanes(account);

CREATE TABLE pauses (
  scope    TEXT PRIMARY KEY,               -- a project's id, or * for all
  reason   TEXT NOT NULL,
  actor    TEXT NOT NULL,
  since_us INTEGER NOT NULL
) STRICT;

CREATE TABLE parked_accounts (
  account   TEXT PRIMARY KEY,
  kind      TEXT NOT NULL,                 -- which limit: five_hour, seven_day, ...
  until_us  INTEGER NOT NULL,
  is_known  INTEGER NOT NULL,              -- Claude said when it resets; else it is tried again then
  execution TEXT NOT NULL,
  since_us  INTEGER NOT NULL
) STRICT;

CREATE TABLE workers (
  id           TEXT PRIMARY KEY,
  name         TEXT NOT NULL UNIQUE,
  kind         TEXT NOT NULL,              -- local (a slot of this daemon) or external
  pools        TEXT NOT NULL,              -- JSON list
  is_draining  INTEGER NOT NULL DEFAULT 0,
  execution    TEXT,                       -- what it carries now
  fault        TEXT,
  heartbeat_us INTEGER NOT NULL,
  lease_until_us INTEGER,                  -- external ones: offline after it
  actor        TEXT NOT NULL,
  registered_us INTEGER NOT NULL
) STRICT;
CREATE INDEX workers_lease ON workers(lease_until_us) WHERE lease_until_us IS NOT NULL;
CREATE UNIQUE INDEX workers_one_each ON workers(execution) WHERE execution IS NOT NULL;

ALTER TABLE executions ADD COLUMN worker TEXT;          -- the name of who carries or carried it
ALTER TABLE executions ADD COLUMN wants_slot INTEGER;   -- answered while waiting: its rank among those that want a slot
CREATE INDEX executions_want ON executions(wants_slot, id) WHERE wants_slot IS NOT NULL;
CREATE INDEX executions_actor ON executions(actor) WHERE state IN ('starting', 'running');
CREATE INDEX executions_live_id ON executions(id) WHERE state IN ('pending', 'starting', 'running', 'waiting');
CREATE INDEX executions_live_project ON executions(project) WHERE state IN ('starting', 'running', 'waiting');

-- How many orders are in each state, kept by the database: counting 100,000 of them takes milliseconds.
CREATE TABLE order_counts (
  state TEXT PRIMARY KEY,
  n     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO order_counts(state, n) SELECT state, count(*) FROM orders GROUP BY state;
CREATE TRIGGER orders_come AFTER INSERT ON orders BEGIN
  INSERT INTO order_counts(state, n) VALUES (NEW.state, 1) ON CONFLICT(state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER orders_move AFTER UPDATE OF state ON orders WHEN OLD.state <> NEW.state BEGIN
  UPDATE order_counts SET n = n - 1 WHERE state = OLD.state;
  INSERT INTO order_counts(state, n) VALUES (NEW.state, 1) ON CONFLICT(state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER orders_go AFTER DELETE ON orders BEGIN
  UPDATE order_counts SET n = n - 1 WHERE state = OLD.state;
END;
