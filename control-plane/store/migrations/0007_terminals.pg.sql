-- The same logical model as the file beside it, in PostgreSQL.
-- Programs on nodes with somebody at their other end. A row is kept as long as tasks are; what flowed is not here.

CREATE TABLE terminals (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  kind text COLLATE "C" NOT NULL,
  tty boolean NOT NULL,
  state text COLLATE "C" NOT NULL,
  permission text COLLATE "C" NOT NULL,
  command text COLLATE "C" NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  created_by_name text COLLATE "C" NOT NULL,
  credential_id text COLLATE "C" NOT NULL,
  account text COLLATE "C" NOT NULL,
  purpose text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  opened_at_ms bigint,
  closed_at_ms bigint,
  detached_at_ms bigint,
  expires_at_ms bigint NOT NULL,
  grace_ms bigint NOT NULL,
  idle_ms bigint NOT NULL,
  exit_code bigint,
  signal bigint,
  reason text COLLATE "C" NOT NULL,
  message text COLLATE "C" NOT NULL,
  custody text COLLATE "C" NOT NULL,
  assignment_id text COLLATE "C" REFERENCES assignments (id),
  organization text COLLATE "C",
  project text COLLATE "C",
  generation bigint NOT NULL,
  correlation_id text COLLATE "C" NOT NULL
);
CREATE INDEX terminals_node ON terminals (node_id, id);
CREATE INDEX terminals_open ON terminals (node_id, id) WHERE state <> 'closed';
CREATE INDEX terminals_assignment ON terminals (assignment_id, id) WHERE assignment_id IS NOT NULL;
CREATE INDEX terminals_project ON terminals (organization, project, id) WHERE organization IS NOT NULL;

-- Who else may attach. Gone with the terminal's end: a share of what has ended allows nothing.
CREATE TABLE terminal_shares (
  terminal_id text COLLATE "C" NOT NULL REFERENCES terminals (id),
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  mode text COLLATE "C" NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  PRIMARY KEY (terminal_id, principal_id)
);
