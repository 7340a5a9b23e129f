-- Worktrees: one for each work order that runs beside its project's directory. A row is committed before
-- git is touched and each step before it is taken; times are microseconds since the epoch.
CREATE TABLE worktrees (
  id          TEXT PRIMARY KEY,
  project     TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
  order_id    TEXT NOT NULL,
  execution   TEXT NOT NULL,
  path        TEXT NOT NULL UNIQUE,
  branch      TEXT NOT NULL,
  prefix      TEXT NOT NULL DEFAULT '',
  base        TEXT,                         -- NULL = git was not touched yet
  programs    TEXT NOT NULL DEFAULT '',
  state       TEXT NOT NULL,
  step        TEXT,                         -- of an accept: committing, merging or cleaning
  target      TEXT,
  target_before TEXT,
  tip         TEXT,
  merged      TEXT,
  problem     TEXT NOT NULL DEFAULT '',
  actor       TEXT NOT NULL,
  created_us  INTEGER NOT NULL,
  changed_us  INTEGER NOT NULL
) STRICT;
CREATE INDEX worktrees_open ON worktrees(project, id) WHERE state NOT IN ('accepted', 'discarded');
CREATE INDEX worktrees_project ON worktrees(project, id);
