-- The same logical model as the file beside it.
-- Recordings of terminals: what is where, under which digest; the content is in files beside the database. A row outlives
-- its content: what was recorded, and that it was deleted, stays known.
CREATE TABLE recordings (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  terminal_id text COLLATE "C" NOT NULL,
  part bigint NOT NULL,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  node_name text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  account_name text COLLATE "C" NOT NULL,
  replica_id text COLLATE "C" NOT NULL,
  input_recorded boolean NOT NULL,
  custody text COLLATE "C" NOT NULL,
  assignment_id text COLLATE "C" REFERENCES assignments (id),
  organization text COLLATE "C",
  project text COLLATE "C",
  generation bigint NOT NULL,
  started_at_ms bigint NOT NULL,
  ended_at_ms bigint,
  truncated text COLLATE "C" NOT NULL,
  bytes bigint NOT NULL,
  events bigint NOT NULL,
  sha256 text COLLATE "C" NOT NULL,
  manifest bytea,
  purged_at_ms bigint,
  held_at_ms bigint,
  hold_reason text COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX recordings_terminal ON recordings (terminal_id, part);
CREATE INDEX recordings_node ON recordings (node_id, id);
CREATE INDEX recordings_project ON recordings (organization, project, id) WHERE organization IS NOT NULL;
CREATE INDEX recordings_recording ON recordings (replica_id, id) WHERE state = 'recording';
CREATE INDEX recordings_expired ON recordings (ended_at_ms, id) WHERE state = 'sealed' AND held_at_ms IS NULL;
