-- The same logical model as the file beside it.
-- Verdicts, one row a node; fenced by version, so that two replicas that judge one node write one after the other.
CREATE TABLE node_health (
  node_id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id),
  state TEXT NOT NULL,
  schedulable INTEGER NOT NULL CHECK (schedulable IN (0, 1)),
  claimed TEXT NOT NULL,
  simulated INTEGER NOT NULL CHECK (simulated IN (0, 1)),
  gpus INTEGER NOT NULL,
  policy_version TEXT NOT NULL,
  since_ms INTEGER NOT NULL,
  verdicts BLOB NOT NULL,
  saved BLOB NOT NULL,
  fact_id TEXT NOT NULL,
  evidence_id TEXT NOT NULL,
  quarantined_at_ms INTEGER,
  quarantine_reason TEXT NOT NULL,
  quarantines TEXT NOT NULL CHECK (json_valid(quarantines)),
  judged_at_ms INTEGER NOT NULL,
  version INTEGER NOT NULL
) STRICT;
-- Bounded by a trim at each insert.
CREATE TABLE node_health_changes (
  id TEXT NOT NULL PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  custody TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  subject_index INTEGER NOT NULL,
  before TEXT NOT NULL,
  after TEXT NOT NULL,
  verdict BLOB NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX node_health_changes_node ON node_health_changes (node_id, id);
-- Bounded by a trim at each insert.
CREATE TABLE node_health_evidence (
  id TEXT NOT NULL PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  clearing TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  subject_index INTEGER NOT NULL,
  task_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  created_by TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX node_health_evidence_node ON node_health_evidence (node_id, id);
-- At most one a node; deleted when it has expired.
CREATE TABLE node_health_overrides (
  node_id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id),
  schedulable INTEGER NOT NULL CHECK (schedulable IN (0, 1)),
  reason TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX node_health_overrides_expiry ON node_health_overrides (expires_at_ms);
