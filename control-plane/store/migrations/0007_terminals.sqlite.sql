-- The same logical model as the file beside it. Booleans are 0 or 1.
-- Programs on nodes with somebody at their other end. A row is kept as long as tasks are; what flowed is not here.

CREATE TABLE terminals (
  id TEXT NOT NULL PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  kind TEXT NOT NULL,
  tty INTEGER NOT NULL CHECK (tty IN (0, 1)),
  state TEXT NOT NULL,
  permission TEXT NOT NULL,
  command TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_by_name TEXT NOT NULL,
  credential_id TEXT NOT NULL,
  account TEXT NOT NULL,
  purpose TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  opened_at_ms INTEGER,
  closed_at_ms INTEGER,
  detached_at_ms INTEGER,
  expires_at_ms INTEGER NOT NULL,
  grace_ms INTEGER NOT NULL,
  idle_ms INTEGER NOT NULL,
  exit_code INTEGER,
  signal INTEGER,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  custody TEXT NOT NULL,
  assignment_id TEXT REFERENCES assignments (id),
  organization TEXT,
  project TEXT,
  generation INTEGER NOT NULL,
  correlation_id TEXT NOT NULL
) STRICT;
CREATE INDEX terminals_node ON terminals (node_id, id);
CREATE INDEX terminals_open ON terminals (node_id, id) WHERE state <> 'closed';
CREATE INDEX terminals_assignment ON terminals (assignment_id, id) WHERE assignment_id IS NOT NULL;
CREATE INDEX terminals_project ON terminals (organization, project, id) WHERE organization IS NOT NULL;

-- Who else may attach. Gone with the terminal's end: a share of what has ended allows nothing.
CREATE TABLE terminal_shares (
  terminal_id TEXT NOT NULL REFERENCES terminals (id),
  principal_id TEXT NOT NULL REFERENCES principals (id),
  mode TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (terminal_id, principal_id)
) STRICT;
