-- The same logical model as the file beside it.
-- How much of each kind a scope may have and has. `used` and `reserved` are the sums over the reservations at and below the
-- scope, kept in the unit that changes one of those: so that a check looks at one row a level, whatever there is below.
CREATE TABLE quotas (
  scope TEXT NOT NULL REFERENCES scopes (name),
  kind TEXT NOT NULL,
  organization TEXT NOT NULL,
  limit_max INTEGER CHECK (limit_max >= 0),
  used INTEGER NOT NULL CHECK (used >= 0),
  reserved INTEGER NOT NULL CHECK (reserved >= 0),
  changed_at_ms INTEGER,
  changed_by TEXT,
  version INTEGER NOT NULL,
  PRIMARY KEY (scope, kind)
) STRICT;
CREATE INDEX quotas_organization ON quotas (organization, kind, scope);

-- Who has what: one row a holder, gone with what it holds.
CREATE TABLE quota_reservations (
  kind TEXT NOT NULL,
  holder TEXT NOT NULL,
  scope TEXT NOT NULL REFERENCES scopes (name),
  organization TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  state TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER,
  PRIMARY KEY (kind, holder)
) STRICT;
CREATE INDEX quota_reservations_expiry ON quota_reservations (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
CREATE INDEX quota_reservations_scope ON quota_reservations (organization, kind, scope);

-- What is open already. How many GPUs the assigned nodes have stands in documents that SQL can't read: these count as none.
INSERT INTO quota_reservations (kind, holder, scope, organization, amount, state, created_at_ms, expires_at_ms)
SELECT 'nodes', held.id, scopes.name, scopes.organization, 1, 'committed', held.from_ms, NULL
FROM assignments AS held JOIN scopes ON scopes.kind = 'project' AND scopes.organization = held.organization AND scopes.id = held.project
WHERE held.until_ms IS NULL;
INSERT INTO quota_reservations (kind, holder, scope, organization, amount, state, created_at_ms, expires_at_ms)
SELECT 'terminals', held.id, scopes.name, scopes.organization, 1, 'committed', held.created_at_ms, NULL
FROM terminals AS held JOIN scopes ON scopes.kind = 'project' AND scopes.organization = held.organization AND scopes.id = held.project
WHERE held.state <> 'closed';
INSERT INTO quota_reservations (kind, holder, scope, organization, amount, state, created_at_ms, expires_at_ms)
SELECT 'tasks', held.id, scopes.name, scopes.organization, 1, 'committed', held.created_at_ms, NULL
FROM tasks AS held JOIN scopes ON scopes.kind = 'project' AND scopes.organization = held.organization AND scopes.id = held.project
WHERE held.state IN ('queued', 'leased', 'running', 'cancelling');
INSERT INTO quota_reservations (kind, holder, scope, organization, amount, state, created_at_ms, expires_at_ms)
SELECT 'api_keys', held.id, scopes.name, scopes.organization, 1, 'committed', held.created_at_ms,
  (SELECT MAX(credentials.expires_at_ms) FROM credentials WHERE credentials.key_id = held.id AND credentials.revoked_at_ms IS NULL)
FROM api_keys AS held JOIN principals ON principals.id = held.principal_id
JOIN scopes ON scopes.name = principals.home AND scopes.kind <> 'platform'
WHERE held.revoked_at_ms IS NULL AND principals.kind = 'service_account' AND principals.deleted_at_ms IS NULL
AND EXISTS (SELECT 1 FROM credentials WHERE credentials.key_id = held.id AND credentials.revoked_at_ms IS NULL);
INSERT INTO quotas (scope, kind, organization, limit_max, used, reserved, changed_at_ms, changed_by, version)
SELECT above.name, held.kind, held.organization, NULL, SUM(held.amount), 0, NULL, NULL, 1
FROM quota_reservations AS held JOIN scopes AS leaf ON leaf.name = held.scope
JOIN scopes AS above ON above.organization = leaf.organization AND above.kind <> 'platform'
  AND substr(leaf.path, 1, length(above.path)) = above.path
GROUP BY above.name, held.kind, held.organization;

-- What an organization, department or project may have by contract, from when until when.
CREATE TABLE entitlements (
  id TEXT NOT NULL PRIMARY KEY,
  scope TEXT NOT NULL REFERENCES scopes (name),
  organization TEXT NOT NULL,
  subject TEXT NOT NULL,
  from_ms INTEGER NOT NULL,
  until_ms INTEGER,
  reason TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  version INTEGER NOT NULL
) STRICT;
CREATE INDEX entitlements_scope ON entitlements (scope, id);

-- Whoever is there goes on with what they could do until now.
INSERT INTO entitlements (id, scope, organization, subject, from_ms, until_ms, reason, created_at_ms, created_by, version)
SELECT 'before-' || organization || '-' || subjects.id, name, organization, subjects.subject, 0, NULL,
  'was there before entitlements', 0, '', 1
FROM scopes, (SELECT 'gpus' AS id, 'gpu-model/*' AS subject UNION ALL SELECT 'host', 'feature/host-mode') AS subjects
WHERE kind = 'organization' AND state <> 'deleted';

-- How far a feature is rolled out, and where: the row nearest to who asks counts; without one, what the program says.
CREATE TABLE features (
  name TEXT NOT NULL,
  scope TEXT NOT NULL REFERENCES scopes (name),
  organization TEXT NOT NULL,
  percentage INTEGER NOT NULL CHECK (percentage BETWEEN 0 AND 100),
  reason TEXT NOT NULL,
  changed_at_ms INTEGER NOT NULL,
  changed_by TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (name, scope)
) STRICT;

-- How strong the last login was, as its token said; the methods are separated by spaces.
ALTER TABLE user_identities ADD COLUMN last_acr TEXT NOT NULL DEFAULT '';
ALTER TABLE user_identities ADD COLUMN last_amr TEXT NOT NULL DEFAULT '';
ALTER TABLE user_identities ADD COLUMN last_auth_time_ms INTEGER;
