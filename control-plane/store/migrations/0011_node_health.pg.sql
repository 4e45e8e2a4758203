-- The same logical model as the file beside it, in PostgreSQL.
-- Verdicts, one row a node; fenced by version, so that two replicas that judge one node write one after the other.
CREATE TABLE node_health (
  node_id text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES nodes (id),
  state text COLLATE "C" NOT NULL,
  schedulable boolean NOT NULL,
  claimed text COLLATE "C" NOT NULL,
  simulated boolean NOT NULL,
  gpus bigint NOT NULL,
  policy_version text COLLATE "C" NOT NULL,
  since_ms bigint NOT NULL,
  verdicts bytea NOT NULL,
  saved bytea NOT NULL,
  fact_id text COLLATE "C" NOT NULL,
  evidence_id text COLLATE "C" NOT NULL,
  quarantined_at_ms bigint,
  quarantine_reason text COLLATE "C" NOT NULL,
  quarantines jsonb NOT NULL,
  judged_at_ms bigint NOT NULL,
  version bigint NOT NULL
);
-- Bounded by a trim at each insert.
CREATE TABLE node_health_changes (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  custody text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  subject_id text COLLATE "C" NOT NULL,
  subject_index bigint NOT NULL,
  before text COLLATE "C" NOT NULL,
  after text COLLATE "C" NOT NULL,
  verdict bytea NOT NULL,
  at_ms bigint NOT NULL
);
CREATE INDEX node_health_changes_node ON node_health_changes (node_id, id);
-- Bounded by a trim at each insert.
CREATE TABLE node_health_evidence (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  clearing text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  subject_id text COLLATE "C" NOT NULL,
  subject_index bigint NOT NULL,
  task_id text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  at_ms bigint NOT NULL
);
CREATE INDEX node_health_evidence_node ON node_health_evidence (node_id, id);
-- At most one a node; deleted when it has expired.
CREATE TABLE node_health_overrides (
  node_id text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES nodes (id),
  schedulable boolean NOT NULL,
  reason text COLLATE "C" NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL
);
CREATE INDEX node_health_overrides_expiry ON node_health_overrides (expires_at_ms);
