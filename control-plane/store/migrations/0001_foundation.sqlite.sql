-- Columns are named by the fields of store/port in snake_case. Times are ms since the epoch, booleans 0 or 1, JSON text.
-- The same logical model as the file for PostgreSQL beside it: change both, test/contract/store compares them.

CREATE TABLE nodes (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  custody TEXT NOT NULL,
  generation INTEGER NOT NULL,
  cordoned INTEGER NOT NULL CHECK (cordoned IN (0, 1)),
  cordon_reason TEXT NOT NULL,
  locked INTEGER NOT NULL CHECK (locked IN (0, 1)),
  lock_reason TEXT NOT NULL,
  labels TEXT NOT NULL CHECK (json_valid(labels)),
  hostname TEXT NOT NULL,
  serial TEXT NOT NULL,
  agent_version TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  instance_id TEXT NOT NULL,
  capabilities TEXT NOT NULL CHECK (json_valid(capabilities)),
  enrolled_at_ms INTEGER NOT NULL,
  last_seen_at_ms INTEGER,
  epoch INTEGER NOT NULL,
  fencing_seq INTEGER NOT NULL,
  fact_seq INTEGER NOT NULL,
  renewal_seq INTEGER NOT NULL,
  recoveries INTEGER NOT NULL,
  bundle_seq_acked INTEGER NOT NULL,
  issuer_key_id_acked TEXT NOT NULL,
  retired_at_ms INTEGER,
  version INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX nodes_name ON nodes (name) WHERE state <> 'retired';
CREATE INDEX nodes_serial ON nodes (serial);

-- A counter that went back would let a superseded session or claim act again.
CREATE TRIGGER nodes_counters BEFORE UPDATE OF epoch, fencing_seq, generation ON nodes
WHEN NEW.epoch < OLD.epoch OR NEW.fencing_seq < OLD.fencing_seq OR NEW.generation < OLD.generation
BEGIN SELECT RAISE(ABORT, 'GPUAAS_COUNTER_DECREASED'); END;

CREATE TABLE sessions (
  node_id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id),
  replica_id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  instance_id TEXT NOT NULL,
  connected_at_ms INTEGER NOT NULL,
  lease_until_ms INTEGER NOT NULL,
  disconnected_at_ms INTEGER,
  lost_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_lease ON sessions (lease_until_ms) WHERE lost_at_ms IS NULL;

CREATE TABLE tasks (
  id TEXT NOT NULL PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  state TEXT NOT NULL,
  kind TEXT NOT NULL,
  spec BLOB NOT NULL,
  created_by TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  attempts_max INTEGER NOT NULL,
  fencing_token INTEGER NOT NULL,
  timeout_ms INTEGER NOT NULL,
  output_bytes_max INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  queue_deadline_ms INTEGER NOT NULL,
  lease_until_ms INTEGER,
  accepted_at_ms INTEGER,
  started_at_ms INTEGER,
  ended_at_ms INTEGER,
  exit_code INTEGER,
  signal INTEGER,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  output_bytes INTEGER NOT NULL,
  output_dropped_bytes INTEGER NOT NULL,
  output_complete INTEGER NOT NULL CHECK (output_complete IN (0, 1)),
  limits_enforced_by TEXT NOT NULL,
  cancel_requested_at_ms INTEGER,
  cancel_grace_ms INTEGER,
  batch_id TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  custody TEXT NOT NULL,
  assignment_id TEXT REFERENCES assignments (id),
  organization TEXT,
  project TEXT,
  generation INTEGER NOT NULL
) STRICT;
CREATE INDEX tasks_node ON tasks (node_id, id);
CREATE INDEX tasks_open ON tasks (state, node_id, id) WHERE state in ('queued', 'leased', 'running', 'cancelling');
CREATE INDEX tasks_queue_deadline ON tasks (queue_deadline_ms) WHERE state = 'queued';
CREATE INDEX tasks_lease ON tasks (lease_until_ms) WHERE state = 'leased' AND accepted_at_ms IS NULL;
CREATE INDEX tasks_batch ON tasks (batch_id, id) WHERE batch_id <> '';
CREATE INDEX tasks_assignment ON tasks (assignment_id, id) WHERE assignment_id IS NOT NULL;
CREATE INDEX tasks_project ON tasks (organization, project, id) WHERE organization IS NOT NULL;

CREATE TABLE task_documents (
  task_id TEXT NOT NULL REFERENCES tasks (id),
  attempt INTEGER NOT NULL,
  envelope BLOB,
  receipt BLOB,
  closing BLOB,
  node_certificate BLOB,
  signer_certificate BLOB,
  PRIMARY KEY (task_id, attempt)
) STRICT;

CREATE TABLE assignments (
  id TEXT NOT NULL PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  slice_id TEXT NOT NULL,
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  mode TEXT NOT NULL,
  generation INTEGER NOT NULL,
  from_ms INTEGER NOT NULL,
  until_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX assignments_open ON assignments (node_id, slice_id) WHERE until_ms IS NULL;
CREATE INDEX assignments_project ON assignments (organization, project, node_id);

CREATE TABLE certificates (
  serial TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  state TEXT NOT NULL,
  spki_sha256 TEXT NOT NULL,
  issuer_key_id TEXT NOT NULL,
  generation INTEGER NOT NULL,
  not_before_ms INTEGER NOT NULL,
  not_after_ms INTEGER NOT NULL,
  issued_at_ms INTEGER NOT NULL,
  first_used_at_ms INTEGER,
  revoked_at_ms INTEGER,
  revocation_reason TEXT NOT NULL,
  der BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX certificates_current ON certificates (subject_id) WHERE kind = 'node' AND state = 'current';
CREATE UNIQUE INDEX certificates_pending ON certificates (subject_id) WHERE kind = 'node' AND state = 'pending';
CREATE INDEX certificates_subject ON certificates (subject_id, serial);
CREATE INDEX certificates_revoked ON certificates (revoked_at_ms) WHERE revoked_at_ms IS NOT NULL;

CREATE TABLE join_tokens (
  id TEXT NOT NULL PRIMARY KEY,
  state TEXT NOT NULL,
  public_key BLOB NOT NULL,
  node_name TEXT NOT NULL,
  labels TEXT NOT NULL CHECK (json_valid(labels)),
  expected_serial TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  node_id TEXT,
  used_by_spki_sha256 TEXT
) STRICT;

CREATE TABLE principals (
  id TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  display_name TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  disabled_at_ms INTEGER
) STRICT;

CREATE TABLE credentials (
  id TEXT NOT NULL PRIMARY KEY,
  principal_id TEXT NOT NULL REFERENCES principals (id),
  mac BLOB NOT NULL,
  pepper_version INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER
) STRICT;

CREATE TABLE bindings (
  id TEXT NOT NULL PRIMARY KEY,
  principal_id TEXT NOT NULL REFERENCES principals (id),
  role TEXT NOT NULL,
  scope TEXT NOT NULL,
  expires_at_ms INTEGER
) STRICT;
CREATE INDEX bindings_principal ON bindings (principal_id, id);

CREATE TABLE policy (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  epoch INTEGER NOT NULL
) STRICT;
INSERT INTO policy (id, epoch) VALUES (1, 1);

CREATE TABLE authority (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,
  document TEXT NOT NULL
) STRICT;

CREATE TABLE operations (
  id TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  target TEXT NOT NULL,
  progress TEXT NOT NULL,
  reason TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  deadline_ms INTEGER NOT NULL,
  ended_at_ms INTEGER,
  data TEXT NOT NULL
) STRICT;
CREATE INDEX operations_running ON operations (target, kind) WHERE state = 'running';

CREATE TABLE outbox (
  id TEXT NOT NULL PRIMARY KEY,
  topic TEXT NOT NULL,
  key TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE request_keys (
  principal_id TEXT NOT NULL,
  method TEXT NOT NULL,
  request_id TEXT NOT NULL,
  body_sha256 BLOB NOT NULL,
  response BLOB NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  PRIMARY KEY (principal_id, method, request_id)
) STRICT;
CREATE INDEX request_keys_expiry ON request_keys (expires_at_ms);

CREATE TABLE leases (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What readiness writes to: a store that can't commit isn't ready.
CREATE TABLE store_check (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  checked_at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO store_check (id, checked_at_ms) VALUES (1, 0);

-- The audit log. ord is the order of writing; seq, the position in the chain, is given after commit.
CREATE TABLE audit_leaves (
  ord INTEGER NOT NULL PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  leaf BLOB NOT NULL CHECK (length(leaf) BETWEEN 1 AND 65535),
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;

-- Clear text behind the commitments of a leaf: the only part of the log that can be erased.
CREATE TABLE audit_clear (
  leaf_id TEXT NOT NULL PRIMARY KEY REFERENCES audit_leaves (id),
  clear TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_chain (
  seq INTEGER NOT NULL PRIMARY KEY,
  ord INTEGER NOT NULL UNIQUE REFERENCES audit_leaves (ord),
  chain BLOB NOT NULL CHECK (length(chain) = 32),
  action TEXT NOT NULL,
  target TEXT NOT NULL
) STRICT;
CREATE INDEX audit_chain_action ON audit_chain (action, seq);
CREATE INDEX audit_chain_target ON audit_chain (target, seq);

CREATE TABLE audit_heads (
  size INTEGER NOT NULL PRIMARY KEY CHECK (size > 0),
  note TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;

CREATE TRIGGER audit_leaves_update BEFORE UPDATE ON audit_leaves
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_leaves_delete BEFORE DELETE ON audit_leaves
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_chain_update BEFORE UPDATE ON audit_chain
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_chain_delete BEFORE DELETE ON audit_chain
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_heads_update BEFORE UPDATE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_heads_delete BEFORE DELETE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_clear_update BEFORE UPDATE ON audit_clear
WHEN NEW.leaf_id <> OLD.leaf_id OR NEW.clear IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_clear_delete BEFORE DELETE ON audit_clear
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_chain_gap BEFORE INSERT ON audit_chain
WHEN NEW.seq <> coalesce((SELECT max(seq) FROM audit_chain), 0) + 1
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_SEQ_GAP'); END;
