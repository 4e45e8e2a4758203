-- Identity and access: the scope tree, principals of all kinds, API keys, roles, bindings, guardrails, invitations.
-- The name of a scope never changes and is never used again, so rows of other tables may carry it; what moves is its path.

CREATE TABLE scopes (
  name text COLLATE "C" NOT NULL PRIMARY KEY,
  kind text COLLATE "C" NOT NULL,
  organization text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  parent text COLLATE "C" REFERENCES scopes (name),
  path text COLLATE "C" NOT NULL,
  display_name text COLLATE "C" NOT NULL,
  skeleton text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  state_reason text COLLATE "C" NOT NULL,
  delete_at_ms bigint,
  created_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  version bigint NOT NULL
);
CREATE UNIQUE INDEX scopes_path ON scopes (path);
CREATE UNIQUE INDEX scopes_skeleton ON scopes (parent, kind, skeleton) WHERE state <> 'deleted';
CREATE INDEX scopes_project ON scopes (organization, id) WHERE kind = 'project';
CREATE INDEX scopes_deletion ON scopes (delete_at_ms) WHERE state = 'deleting';
INSERT INTO scopes VALUES ('platform', 'platform', '', 'platform', NULL, '/', 'platform', 'platform', 'active', '', NULL, 0, '', 1);
INSERT INTO scopes SELECT DISTINCT 'organizations/' || organization, 'organization', organization, organization, 'platform',
  '/' || organization || '/', organization, organization, 'active', '', NULL::bigint, 0, '', 1 FROM assignments;
INSERT INTO scopes SELECT DISTINCT 'organizations/' || organization || '/projects/' || project, 'project', organization, project,
  'organizations/' || organization, '/' || organization || '/p.' || project || '/', project, project, 'active', '',
  NULL::bigint, 0, '', 1 FROM assignments;

-- Users, service accounts, groups and the bootstrap operator. A service account and a group have a home scope.
ALTER TABLE principals ADD COLUMN organization text COLLATE "C";
ALTER TABLE principals ADD COLUMN home text COLLATE "C" REFERENCES scopes (name);
ALTER TABLE principals ADD COLUMN name text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN email text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN owner_id text COLLATE "C";
ALTER TABLE principals ADD COLUMN disabled_reason text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN deleted_at_ms bigint;
ALTER TABLE principals ADD COLUMN version bigint NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX principals_name ON principals (organization, kind, name) WHERE name <> '' AND deleted_at_ms IS NULL;
CREATE INDEX principals_home ON principals (home, id) WHERE home IS NOT NULL;
CREATE INDEX principals_kind ON principals (kind, id);

-- (issuer, subject) keys a person: the same subject at another issuer is a stranger.
CREATE TABLE user_identities (
  issuer text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL,
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  email text COLLATE "C" NOT NULL,
  email_verified boolean NOT NULL,
  created_at_ms bigint NOT NULL,
  last_login_at_ms bigint,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX user_identities_principal ON user_identities (principal_id);

-- Who belongs to an organization: a tenant's roles go to its members and its own service accounts only.
CREATE TABLE members (
  organization text COLLATE "C" NOT NULL,
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  joined_at_ms bigint NOT NULL,
  added_by text COLLATE "C" NOT NULL,
  PRIMARY KEY (organization, principal_id)
);
CREATE INDEX members_principal ON members (principal_id, organization);

CREATE TABLE group_members (
  group_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  added_at_ms bigint NOT NULL,
  added_by text COLLATE "C" NOT NULL,
  PRIMARY KEY (group_id, principal_id)
);
CREATE INDEX group_members_principal ON group_members (principal_id, group_id);

-- An API key is a name with up to two live secrets; each secret is a row of credentials.
CREATE TABLE api_keys (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  display_name text COLLATE "C" NOT NULL,
  permissions jsonb NOT NULL,
  scope text COLLATE "C" NOT NULL,
  cidrs jsonb NOT NULL,
  created_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  revoked_at_ms bigint,
  revoked_reason text COLLATE "C" NOT NULL,
  version bigint NOT NULL
);
CREATE INDEX api_keys_principal ON api_keys (principal_id, id);
ALTER TABLE credentials ADD COLUMN key_id text COLLATE "C" REFERENCES api_keys (id);
CREATE INDEX credentials_key ON credentials (key_id) WHERE key_id IS NOT NULL;

-- Apart from the credential: written late and in batches, and no change of policy.
CREATE TABLE credential_uses (
  credential_id text COLLATE "C" NOT NULL PRIMARY KEY,
  used_at_ms bigint NOT NULL,
  peer text COLLATE "C" NOT NULL
);

-- Custom roles; the built-in ones are part of the program. A change makes a version, and the newest counts.
CREATE TABLE roles (
  name text COLLATE "C" NOT NULL PRIMARY KEY,
  organization text COLLATE "C" NOT NULL,
  display_name text COLLATE "C" NOT NULL,
  permissions jsonb NOT NULL,
  created_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  deleted_at_ms bigint,
  version bigint NOT NULL
);
CREATE INDEX roles_organization ON roles (organization, name);
CREATE TABLE role_versions (
  role text COLLATE "C" NOT NULL REFERENCES roles (name),
  version bigint NOT NULL,
  permissions jsonb NOT NULL,
  at_ms bigint NOT NULL,
  changed_by text COLLATE "C" NOT NULL,
  PRIMARY KEY (role, version)
);

ALTER TABLE bindings ADD COLUMN permissions jsonb NOT NULL DEFAULT '[]';
ALTER TABLE bindings ADD COLUMN reason text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE bindings ADD COLUMN created_at_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE bindings ADD COLUMN created_by text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE bindings ADD COLUMN version bigint NOT NULL DEFAULT 1;
CREATE INDEX bindings_scope ON bindings (scope, id);
CREATE INDEX bindings_role ON bindings (role, id);
CREATE INDEX bindings_expiry ON bindings (expires_at_ms) WHERE expires_at_ms IS NOT NULL;

-- Forbid rules: they hold below their scope, and no role outweighs one.
CREATE TABLE guardrails (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  scope text COLLATE "C" NOT NULL REFERENCES scopes (name),
  permissions jsonb NOT NULL,
  principal_kinds jsonb NOT NULL,
  reason text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  version bigint NOT NULL
);
CREATE INDEX guardrails_scope ON guardrails (scope, id);

CREATE TABLE invitations (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  organization text COLLATE "C" NOT NULL,
  email text COLLATE "C" NOT NULL,
  token_sha256 bytea NOT NULL,
  role text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  expires_at_ms bigint NOT NULL,
  accepted_at_ms bigint,
  accepted_by text COLLATE "C",
  revoked_at_ms bigint,
  version bigint NOT NULL
);
CREATE UNIQUE INDEX invitations_token ON invitations (token_sha256);
CREATE INDEX invitations_organization ON invitations (organization, id);
