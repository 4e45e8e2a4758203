-- The same logical model as the file beside it. Booleans are 0 or 1.
-- Recordings of terminals: what is where, under which digest; the content is in files beside the database. A row outlives
-- its content: what was recorded, and that it was deleted, stays known.
CREATE TABLE recordings (
  id TEXT NOT NULL PRIMARY KEY,
  terminal_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  node_name TEXT NOT NULL,
  state TEXT NOT NULL,
  created_by TEXT NOT NULL,
  account_name TEXT NOT NULL,
  replica_id TEXT NOT NULL,
  input_recorded INTEGER NOT NULL CHECK (input_recorded IN (0, 1)),
  custody TEXT NOT NULL,
  assignment_id TEXT REFERENCES assignments (id),
  organization TEXT,
  project TEXT,
  generation INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL,
  ended_at_ms INTEGER,
  truncated TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  events INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  manifest BLOB,
  purged_at_ms INTEGER,
  held_at_ms INTEGER,
  hold_reason TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX recordings_terminal ON recordings (terminal_id, part);
CREATE INDEX recordings_node ON recordings (node_id, id);
CREATE INDEX recordings_project ON recordings (organization, project, id) WHERE organization IS NOT NULL;
CREATE INDEX recordings_recording ON recordings (replica_id, id) WHERE state = 'recording';
CREATE INDEX recordings_expired ON recordings (ended_at_ms, id) WHERE state = 'sealed' AND held_at_ms IS NULL;
