-- The same logical model as the file beside it. Booleans are 0 or 1, JSON is text.
-- Identity and access: the scope tree, principals of all kinds, API keys, roles, bindings, guardrails, invitations.
-- The name of a scope never changes and is never used again, so rows of other tables may carry it; what moves is its path.

CREATE TABLE scopes (
  name TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  organization TEXT NOT NULL,
  id TEXT NOT NULL,
  parent TEXT REFERENCES scopes (name),
  path TEXT NOT NULL,
  display_name TEXT NOT NULL,
  skeleton TEXT NOT NULL,
  state TEXT NOT NULL,
  state_reason TEXT NOT NULL,
  delete_at_ms INTEGER,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  version INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX scopes_path ON scopes (path);
CREATE UNIQUE INDEX scopes_skeleton ON scopes (parent, kind, skeleton) WHERE state <> 'deleted';
CREATE INDEX scopes_project ON scopes (organization, id) WHERE kind = 'project';
CREATE INDEX scopes_deletion ON scopes (delete_at_ms) WHERE state = 'deleting';
INSERT INTO scopes VALUES ('platform', 'platform', '', 'platform', NULL, '/', 'platform', 'platform', 'active', '', NULL, 0, '', 1);
INSERT INTO scopes SELECT DISTINCT 'organizations/' || organization, 'organization', organization, organization, 'platform',
  '/' || organization || '/', organization, organization, 'active', '', NULL, 0, '', 1 FROM assignments;
INSERT INTO scopes SELECT DISTINCT 'organizations/' || organization || '/projects/' || project, 'project', organization, project,
  'organizations/' || organization, '/' || organization || '/p.' || project || '/', project, project, 'active', '',
  NULL, 0, '', 1 FROM assignments;

-- Users, service accounts, groups and the bootstrap operator. A service account and a group have a home scope.
ALTER TABLE principals ADD COLUMN organization TEXT;
ALTER TABLE principals ADD COLUMN home TEXT REFERENCES scopes (name);
ALTER TABLE principals ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN email TEXT NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN owner_id TEXT;
ALTER TABLE principals ADD COLUMN disabled_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN deleted_at_ms INTEGER;
ALTER TABLE principals ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX principals_name ON principals (organization, kind, name) WHERE name <> '' AND deleted_at_ms IS NULL;
CREATE INDEX principals_home ON principals (home, id) WHERE home IS NOT NULL;
CREATE INDEX principals_kind ON principals (kind, id);

-- (issuer, subject) keys a person: the same subject at another issuer is a stranger.
CREATE TABLE user_identities (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  principal_id TEXT NOT NULL REFERENCES principals (id),
  email TEXT NOT NULL,
  email_verified INTEGER NOT NULL CHECK (email_verified IN (0, 1)),
  created_at_ms INTEGER NOT NULL,
  last_login_at_ms INTEGER,
  PRIMARY KEY (issuer, subject)
) STRICT;
CREATE INDEX user_identities_principal ON user_identities (principal_id);

-- Who belongs to an organization: a tenant's roles go to its members and its own service accounts only.
CREATE TABLE members (
  organization TEXT NOT NULL,
  principal_id TEXT NOT NULL REFERENCES principals (id),
  joined_at_ms INTEGER NOT NULL,
  added_by TEXT NOT NULL,
  PRIMARY KEY (organization, principal_id)
) STRICT;
CREATE INDEX members_principal ON members (principal_id, organization);

CREATE TABLE group_members (
  group_id TEXT NOT NULL REFERENCES principals (id),
  principal_id TEXT NOT NULL REFERENCES principals (id),
  added_at_ms INTEGER NOT NULL,
  added_by TEXT NOT NULL,
  PRIMARY KEY (group_id, principal_id)
) STRICT;
CREATE INDEX group_members_principal ON group_members (principal_id, group_id);

-- An API key is a name with up to two live secrets; each secret is a row of credentials.
CREATE TABLE api_keys (
  id TEXT NOT NULL PRIMARY KEY,
  principal_id TEXT NOT NULL REFERENCES principals (id),
  display_name TEXT NOT NULL,
  permissions TEXT NOT NULL CHECK (json_valid(permissions)),
  scope TEXT NOT NULL,
  cidrs TEXT NOT NULL CHECK (json_valid(cidrs)),
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  revoked_at_ms INTEGER,
  revoked_reason TEXT NOT NULL,
  version INTEGER NOT NULL
) STRICT;
CREATE INDEX api_keys_principal ON api_keys (principal_id, id);
ALTER TABLE credentials ADD COLUMN key_id TEXT REFERENCES api_keys (id);
CREATE INDEX credentials_key ON credentials (key_id) WHERE key_id IS NOT NULL;

-- Apart from the credential: written late and in batches, and no change of policy.
CREATE TABLE credential_uses (
  credential_id TEXT NOT NULL PRIMARY KEY,
  used_at_ms INTEGER NOT NULL,
  peer TEXT NOT NULL
) STRICT;

-- Custom roles; the built-in ones are part of the program. A change makes a version, and the newest counts.
CREATE TABLE roles (
  name TEXT NOT NULL PRIMARY KEY,
  organization TEXT NOT NULL,
  display_name TEXT NOT NULL,
  permissions TEXT NOT NULL CHECK (json_valid(permissions)),
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  deleted_at_ms INTEGER,
  version INTEGER NOT NULL
) STRICT;
CREATE INDEX roles_organization ON roles (organization, name);
CREATE TABLE role_versions (
  role TEXT NOT NULL REFERENCES roles (name),
  version INTEGER NOT NULL,
  permissions TEXT NOT NULL CHECK (json_valid(permissions)),
  at_ms INTEGER NOT NULL,
  changed_by TEXT NOT NULL,
  PRIMARY KEY (role, version)
) STRICT;

ALTER TABLE bindings ADD COLUMN permissions TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(permissions));
ALTER TABLE bindings ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE bindings ADD COLUMN created_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bindings ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE bindings ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
CREATE INDEX bindings_scope ON bindings (scope, id);
CREATE INDEX bindings_role ON bindings (role, id);
CREATE INDEX bindings_expiry ON bindings (expires_at_ms) WHERE expires_at_ms IS NOT NULL;

-- Forbid rules: they hold below their scope, and no role outweighs one.
CREATE TABLE guardrails (
  id TEXT NOT NULL PRIMARY KEY,
  scope TEXT NOT NULL REFERENCES scopes (name),
  permissions TEXT NOT NULL CHECK (json_valid(permissions)),
  principal_kinds TEXT NOT NULL CHECK (json_valid(principal_kinds)),
  reason TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  version INTEGER NOT NULL
) STRICT;
CREATE INDEX guardrails_scope ON guardrails (scope, id);

CREATE TABLE invitations (
  id TEXT NOT NULL PRIMARY KEY,
  organization TEXT NOT NULL,
  email TEXT NOT NULL,
  token_sha256 BLOB NOT NULL,
  role TEXT NOT NULL,
  scope TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  accepted_at_ms INTEGER,
  accepted_by TEXT,
  revoked_at_ms INTEGER,
  version INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX invitations_token ON invitations (token_sha256);
CREATE INDEX invitations_organization ON invitations (organization, id);
