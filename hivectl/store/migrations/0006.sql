-- Questions of ask_human and of workers, and the threads they stand in.
CREATE TABLE chats (
  id          TEXT PRIMARY KEY,
  title       TEXT NOT NULL,
  owner       TEXT NOT NULL,                 -- who asks here: execution:<id>, worker:<id>, or who began it
  project     TEXT REFERENCES projects(id) ON DELETE CASCADE,
  execution   TEXT REFERENCES executions(id) ON DELETE CASCADE,
  task        TEXT,
  messages    INTEGER NOT NULL DEFAULT 0,
  created_us  INTEGER NOT NULL,
  activity_us INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX chats_execution ON chats(execution) WHERE execution IS NOT NULL;
CREATE INDEX chats_activity ON chats(activity_us, id);
CREATE INDEX chats_project ON chats(project) WHERE project IS NOT NULL;
CREATE INDEX chats_owner ON chats(owner) WHERE execution IS NULL;

CREATE TABLE chat_messages (
  id         TEXT PRIMARY KEY,
  chat       TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
  author     TEXT NOT NULL,
  role       TEXT NOT NULL,                  -- worker, human or system
  type       TEXT NOT NULL,                  -- request, response or status
  parent     TEXT,
  question   TEXT,                           -- what it asks or answers: q_... or a_...
  text       TEXT NOT NULL,
  created_us INTEGER NOT NULL
) STRICT;
CREATE INDEX chat_messages_chat ON chat_messages(chat, id);
CREATE INDEX chat_messages_question ON chat_messages(question) WHERE question IS NOT NULL;

-- The newest message each actor has read.
CREATE TABLE chat_reads (
  chat    TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
  actor   TEXT NOT NULL,
  message TEXT NOT NULL,
  PRIMARY KEY (chat, actor)
) STRICT;

CREATE TABLE questions (
  id          TEXT PRIMARY KEY,
  asker       TEXT NOT NULL,
  execution   TEXT REFERENCES executions(id) ON DELETE CASCADE,
  project     TEXT REFERENCES projects(id) ON DELETE CASCADE,
  thread      TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
  message_id  TEXT NOT NULL,
  request     TEXT,                          -- Claude's own ids of its call; NULL: asked through the protocol
  rpc         TEXT,
  text        TEXT NOT NULL,
  choices     TEXT NOT NULL,
  multi       INTEGER NOT NULL DEFAULT 0,
  context     TEXT NOT NULL,
  state       TEXT NOT NULL,                 -- pending, answered, expired or withdrawn
  version     INTEGER NOT NULL DEFAULT 1,
  answer      TEXT,                          -- choices and words (JSON)
  answered_by TEXT,
  reason      TEXT NOT NULL DEFAULT '',      -- what the asker hears where nobody answered
  is_delivered INTEGER NOT NULL DEFAULT 0,
  on_timeout  TEXT NOT NULL,
  expires_us  INTEGER,
  created_us  INTEGER NOT NULL,
  answered_us INTEGER,
  UNIQUE (execution, request)
) STRICT;
CREATE INDEX questions_pending ON questions(id) WHERE state = 'pending';
CREATE INDEX questions_expiry ON questions(expires_us) WHERE state = 'pending' AND expires_us IS NOT NULL;
CREATE INDEX questions_execution ON questions(execution, state) WHERE execution IS NOT NULL;
CREATE INDEX questions_asker ON questions(asker) WHERE state = 'pending';
