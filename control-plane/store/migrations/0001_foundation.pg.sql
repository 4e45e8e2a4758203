-- Columns are named by the fields of store/port in snake_case. Times are ms since the epoch.
-- The same logical model as the file for SQLite beside it: change both, test/contract/store compares them.
-- Text sorts by bytes, as in SQLite: pages are ranges of ids.

CREATE TABLE nodes (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  custody text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  cordoned boolean NOT NULL,
  cordon_reason text COLLATE "C" NOT NULL,
  locked boolean NOT NULL,
  lock_reason text COLLATE "C" NOT NULL,
  labels jsonb NOT NULL,
  hostname text COLLATE "C" NOT NULL,
  serial text COLLATE "C" NOT NULL,
  agent_version text COLLATE "C" NOT NULL,
  boot_id text COLLATE "C" NOT NULL,
  instance_id text COLLATE "C" NOT NULL,
  capabilities jsonb NOT NULL,
  enrolled_at_ms bigint NOT NULL,
  last_seen_at_ms bigint,
  epoch bigint NOT NULL,
  fencing_seq bigint NOT NULL,
  fact_seq bigint NOT NULL,
  renewal_seq bigint NOT NULL,
  recoveries bigint NOT NULL,
  bundle_seq_acked bigint NOT NULL,
  issuer_key_id_acked text COLLATE "C" NOT NULL,
  retired_at_ms bigint,
  version bigint NOT NULL
);
CREATE UNIQUE INDEX nodes_name ON nodes (name) WHERE state <> 'retired';
CREATE INDEX nodes_serial ON nodes (serial);

-- A counter that went back would let a superseded session or claim act again.
CREATE FUNCTION gpuaas_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER nodes_counters BEFORE UPDATE OF epoch, fencing_seq, generation ON nodes FOR EACH ROW
WHEN (NEW.epoch < OLD.epoch OR NEW.fencing_seq < OLD.fencing_seq OR NEW.generation < OLD.generation)
EXECUTE FUNCTION gpuaas_refuse('GPUAAS_COUNTER_DECREASED');

CREATE TABLE sessions (
  node_id text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES nodes (id),
  replica_id text COLLATE "C" NOT NULL,
  epoch bigint NOT NULL,
  instance_id text COLLATE "C" NOT NULL,
  connected_at_ms bigint NOT NULL,
  lease_until_ms bigint NOT NULL,
  disconnected_at_ms bigint,
  lost_at_ms bigint
);
CREATE INDEX sessions_lease ON sessions (lease_until_ms) WHERE lost_at_ms IS NULL;

CREATE TABLE assignments (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  slice_id text COLLATE "C" NOT NULL,
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  mode text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  from_ms bigint NOT NULL,
  until_ms bigint
);
CREATE UNIQUE INDEX assignments_open ON assignments (node_id, slice_id) WHERE until_ms IS NULL;
CREATE INDEX assignments_project ON assignments (organization, project, node_id);

CREATE TABLE tasks (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  state text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  spec bytea NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  attempt bigint NOT NULL,
  attempts_max bigint NOT NULL,
  fencing_token bigint NOT NULL,
  timeout_ms bigint NOT NULL,
  output_bytes_max bigint NOT NULL,
  created_at_ms bigint NOT NULL,
  queue_deadline_ms bigint NOT NULL,
  lease_until_ms bigint,
  accepted_at_ms bigint,
  started_at_ms bigint,
  ended_at_ms bigint,
  exit_code bigint,
  signal bigint,
  reason text COLLATE "C" NOT NULL,
  message text COLLATE "C" NOT NULL,
  output_bytes bigint NOT NULL,
  output_dropped_bytes bigint NOT NULL,
  output_complete boolean NOT NULL,
  limits_enforced_by text COLLATE "C" NOT NULL,
  cancel_requested_at_ms bigint,
  cancel_grace_ms bigint,
  batch_id text COLLATE "C" NOT NULL,
  correlation_id text COLLATE "C" NOT NULL,
  custody text COLLATE "C" NOT NULL,
  assignment_id text COLLATE "C" REFERENCES assignments (id),
  organization text COLLATE "C",
  project text COLLATE "C",
  generation bigint NOT NULL
);
CREATE INDEX tasks_node ON tasks (node_id, id);
CREATE INDEX tasks_open ON tasks (state, node_id, id) WHERE state in ('queued', 'leased', 'running', 'cancelling');
CREATE INDEX tasks_queue_deadline ON tasks (queue_deadline_ms) WHERE state = 'queued';
CREATE INDEX tasks_lease ON tasks (lease_until_ms) WHERE state = 'leased' AND accepted_at_ms IS NULL;
CREATE INDEX tasks_batch ON tasks (batch_id, id) WHERE batch_id <> '';
CREATE INDEX tasks_assignment ON tasks (assignment_id, id) WHERE assignment_id IS NOT NULL;
CREATE INDEX tasks_project ON tasks (organization, project, id) WHERE organization IS NOT NULL;

CREATE TABLE task_documents (
  task_id text COLLATE "C" NOT NULL REFERENCES tasks (id),
  attempt bigint NOT NULL,
  envelope bytea,
  receipt bytea,
  closing bytea,
  node_certificate bytea,
  signer_certificate bytea,
  PRIMARY KEY (task_id, attempt)
);

CREATE TABLE certificates (
  serial text COLLATE "C" NOT NULL PRIMARY KEY,
  kind text COLLATE "C" NOT NULL,
  subject_id text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  spki_sha256 text COLLATE "C" NOT NULL,
  issuer_key_id text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  not_before_ms bigint NOT NULL,
  not_after_ms bigint NOT NULL,
  issued_at_ms bigint NOT NULL,
  first_used_at_ms bigint,
  revoked_at_ms bigint,
  revocation_reason text COLLATE "C" NOT NULL,
  der bytea NOT NULL
);
CREATE UNIQUE INDEX certificates_current ON certificates (subject_id) WHERE kind = 'node' AND state = 'current';
CREATE UNIQUE INDEX certificates_pending ON certificates (subject_id) WHERE kind = 'node' AND state = 'pending';
CREATE INDEX certificates_subject ON certificates (subject_id, serial);
CREATE INDEX certificates_revoked ON certificates (revoked_at_ms) WHERE revoked_at_ms IS NOT NULL;

CREATE TABLE join_tokens (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  state text COLLATE "C" NOT NULL,
  public_key bytea NOT NULL,
  node_name text COLLATE "C" NOT NULL,
  labels jsonb NOT NULL,
  expected_serial text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  node_id text COLLATE "C",
  used_by_spki_sha256 text COLLATE "C"
);

CREATE TABLE principals (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  kind text COLLATE "C" NOT NULL,
  display_name text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  disabled_at_ms bigint
);

CREATE TABLE credentials (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  mac bytea NOT NULL,
  pepper_version bigint NOT NULL,
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL,
  revoked_at_ms bigint
);

CREATE TABLE bindings (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  role text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  expires_at_ms bigint
);
CREATE INDEX bindings_principal ON bindings (principal_id, id);

CREATE TABLE policy (
  id bigint NOT NULL PRIMARY KEY CHECK (id = 1),
  epoch bigint NOT NULL
);
INSERT INTO policy (id, epoch) VALUES (1, 1);

CREATE TABLE authority (
  id bigint NOT NULL PRIMARY KEY CHECK (id = 1),
  version bigint NOT NULL,
  document text COLLATE "C" NOT NULL
);

CREATE TABLE operations (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  kind text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  target text COLLATE "C" NOT NULL,
  progress text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  deadline_ms bigint NOT NULL,
  ended_at_ms bigint,
  data text COLLATE "C" NOT NULL
);
CREATE INDEX operations_running ON operations (target, kind) WHERE state = 'running';

CREATE TABLE outbox (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  topic text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  at_ms bigint NOT NULL
);

CREATE TABLE request_keys (
  principal_id text COLLATE "C" NOT NULL,
  method text COLLATE "C" NOT NULL,
  request_id text COLLATE "C" NOT NULL,
  body_sha256 bytea NOT NULL,
  response bytea NOT NULL,
  expires_at_ms bigint NOT NULL,
  PRIMARY KEY (principal_id, method, request_id)
);
CREATE INDEX request_keys_expiry ON request_keys (expires_at_ms);

CREATE TABLE leases (
  name text COLLATE "C" NOT NULL PRIMARY KEY,
  holder text COLLATE "C" NOT NULL,
  until_ms bigint NOT NULL
);

-- What readiness writes to: a store that can't commit isn't ready.
CREATE TABLE store_check (
  id bigint NOT NULL PRIMARY KEY CHECK (id = 1),
  checked_at_ms bigint NOT NULL
);
INSERT INTO store_check (id, checked_at_ms) VALUES (1, 0);

-- The audit log. ord is the order of writing; seq, the position in the chain, is given after commit.
CREATE TABLE audit_leaves (
  ord bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text COLLATE "C" NOT NULL UNIQUE,
  leaf bytea NOT NULL CHECK (length(leaf) BETWEEN 1 AND 65535),
  action text COLLATE "C" NOT NULL,
  target text COLLATE "C" NOT NULL,
  at_ms bigint NOT NULL
);

-- Clear text behind the commitments of a leaf: the only part of the log that can be erased.
CREATE TABLE audit_clear (
  leaf_id text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES audit_leaves (id),
  clear text COLLATE "C"
);

CREATE TABLE audit_chain (
  seq bigint NOT NULL PRIMARY KEY,
  ord bigint NOT NULL UNIQUE REFERENCES audit_leaves (ord),
  chain bytea NOT NULL CHECK (length(chain) = 32),
  action text COLLATE "C" NOT NULL,
  target text COLLATE "C" NOT NULL
);
CREATE INDEX audit_chain_action ON audit_chain (action, seq);
CREATE INDEX audit_chain_target ON audit_chain (target, seq);

CREATE TABLE audit_heads (
  size bigint NOT NULL PRIMARY KEY CHECK (size > 0),
  note text COLLATE "C" NOT NULL,
  at_ms bigint NOT NULL
);

-- Leaves that wait for their position. SQLite needs none: there, writing order is the order of commit.
CREATE TABLE audit_pending (
  ord bigint NOT NULL PRIMARY KEY REFERENCES audit_leaves (ord)
);

CREATE TRIGGER audit_leaves_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_leaves
FOR EACH STATEMENT EXECUTE FUNCTION gpuaas_refuse('GPUAAS_AUDIT_APPEND_ONLY');
CREATE TRIGGER audit_chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_chain
FOR EACH STATEMENT EXECUTE FUNCTION gpuaas_refuse('GPUAAS_AUDIT_APPEND_ONLY');
CREATE TRIGGER audit_heads_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_heads
FOR EACH STATEMENT EXECUTE FUNCTION gpuaas_refuse('GPUAAS_AUDIT_APPEND_ONLY');
CREATE TRIGGER audit_clear_append_only BEFORE DELETE OR TRUNCATE ON audit_clear
FOR EACH STATEMENT EXECUTE FUNCTION gpuaas_refuse('GPUAAS_AUDIT_APPEND_ONLY');
CREATE TRIGGER audit_clear_update BEFORE UPDATE ON audit_clear FOR EACH ROW
WHEN (NEW.leaf_id <> OLD.leaf_id OR NEW.clear IS NOT NULL)
EXECUTE FUNCTION gpuaas_refuse('GPUAAS_AUDIT_APPEND_ONLY');

CREATE FUNCTION gpuaas_refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.seq <> coalesce((SELECT max(seq) FROM audit_chain), 0) + 1 THEN
    RAISE EXCEPTION 'GPUAAS_AUDIT_SEQ_GAP' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_chain_gap BEFORE INSERT ON audit_chain FOR EACH ROW EXECUTE FUNCTION gpuaas_refuse_gap();
