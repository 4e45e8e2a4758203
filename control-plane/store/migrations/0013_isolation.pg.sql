-- Audit rows carry the organization that their leaf names, copied like action and target: so a tenant can list its own.
-- The leaves themselves stay as they are, byte for byte; only the triggers that refuse every update step aside meanwhile.
ALTER TABLE audit_leaves ADD COLUMN organization text COLLATE "C";
ALTER TABLE audit_chain ADD COLUMN organization text COLLATE "C";
CREATE FUNCTION gpuaas_organization_of(leaf bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN nullif(convert_from(leaf, 'UTF8')::jsonb ->> 'organization', '');
EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
ALTER TABLE audit_leaves DISABLE TRIGGER audit_leaves_append_only;
ALTER TABLE audit_chain DISABLE TRIGGER audit_chain_append_only;
UPDATE audit_leaves SET organization = gpuaas_organization_of(leaf) WHERE gpuaas_organization_of(leaf) IS NOT NULL;
UPDATE audit_chain SET organization = audit_leaves.organization FROM audit_leaves
WHERE audit_leaves.ord = audit_chain.ord AND audit_leaves.organization IS NOT NULL;
ALTER TABLE audit_leaves ENABLE TRIGGER audit_leaves_append_only;
ALTER TABLE audit_chain ENABLE TRIGGER audit_chain_append_only;
DROP FUNCTION gpuaas_organization_of(bytea);
CREATE INDEX audit_chain_organization ON audit_chain (organization, seq) WHERE organization IS NOT NULL;

-- Row security (docs/adr/0025). A unit of a tenant runs as gpuaas_app_tenant with these two settings; without them it
-- sees nothing. Always asked as (SELECT ...): once a statement, not once a row.
CREATE FUNCTION gpuaas_organizations() RETURNS text[] LANGUAGE sql STABLE
AS $$ SELECT string_to_array(current_setting('gpuaas.organization', true), ',') $$;
CREATE FUNCTION gpuaas_principal() RETURNS text LANGUAGE sql STABLE
AS $$ SELECT nullif(current_setting('gpuaas.principal', true), '') $$;

-- Every table, of this schema change and of all later ones: FORCE, so that its owner is held too; all of it for the
-- platform's own work; for tenants the rows that `tenant` says and nothing without it.
CREATE FUNCTION gpuaas_isolate(relation regclass, tenant text DEFAULT NULL,
  privileges text DEFAULT 'SELECT, INSERT, UPDATE, DELETE') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
  EXECUTE format('CREATE POLICY system ON %s TO gpuaas_app_system, gpuaas_migrator USING (true) WITH CHECK (true)', relation);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO gpuaas_app_system', relation);
  IF tenant IS NULL THEN RETURN; END IF;
  EXECUTE format('CREATE POLICY tenant ON %s TO gpuaas_app_tenant USING (%s) WITH CHECK (%s)', relation, tenant, tenant);
  EXECUTE format('GRANT %s ON %s TO gpuaas_app_tenant', privileges, relation);
END $$;
CREATE FUNCTION gpuaas_isolate_scoped(relation regclass, scope text, privileges text DEFAULT 'SELECT, INSERT, UPDATE, DELETE')
RETURNS void LANGUAGE sql AS $$ SELECT gpuaas_isolate(relation,
  format('split_part(%s, ''/'', 2) = ANY ((SELECT gpuaas_organizations())::text[])', scope), privileges) $$;
CREATE FUNCTION gpuaas_isolate_owned(relation regclass, privileges text DEFAULT 'SELECT, INSERT, UPDATE, DELETE')
RETURNS void LANGUAGE sql AS $$ SELECT gpuaas_isolate(relation,
  'organization = ANY ((SELECT gpuaas_organizations())::text[])', privileges) $$;

-- What names its organization.
SELECT gpuaas_isolate_owned('assignments', 'SELECT, UPDATE');
SELECT gpuaas_isolate_owned('tasks');
SELECT gpuaas_isolate_owned('terminals');
SELECT gpuaas_isolate_owned('recordings');
SELECT gpuaas_isolate_owned('members');
SELECT gpuaas_isolate_owned('roles');
SELECT gpuaas_isolate_owned('invitations');
SELECT gpuaas_isolate_owned('login_domains', 'SELECT');
SELECT gpuaas_isolate_owned('quotas');
SELECT gpuaas_isolate_owned('quota_reservations');
SELECT gpuaas_isolate_owned('entitlements', 'SELECT');
SELECT gpuaas_isolate_owned('features', 'SELECT');
-- How far the platform rolls a feature out is for everybody.
CREATE POLICY root ON features FOR SELECT TO gpuaas_app_tenant USING (scope = 'platform');
SELECT gpuaas_isolate_owned('scopes');
-- The root above all organizations: with it stand what the platform forbids to everybody and the paths of all.
CREATE POLICY root ON scopes FOR SELECT TO gpuaas_app_tenant USING (name = 'platform');

-- What stands at a scope, by the scope's name.
SELECT gpuaas_isolate_scoped('bindings', 'scope');
SELECT gpuaas_isolate_scoped('guardrails', 'scope');
SELECT gpuaas_isolate_scoped('role_versions', 'role');
SELECT gpuaas_isolate('approvals', 'requester_id = (SELECT gpuaas_principal())
  OR split_part(scope, ''/'', 2) = ANY ((SELECT gpuaas_organizations())::text[])');

-- People have no organization of their own: seen are oneself, members, and whoever was given a role there. A condition on
-- another table is held to that table's own policy.
SELECT gpuaas_isolate('principals', 'organization = ANY ((SELECT gpuaas_organizations())::text[])
  OR id = (SELECT gpuaas_principal())
  OR EXISTS (SELECT 1 FROM members WHERE members.principal_id = principals.id)
  OR EXISTS (SELECT 1 FROM bindings WHERE bindings.principal_id = principals.id)', 'SELECT, INSERT, UPDATE');
SELECT gpuaas_isolate('user_identities', 'principal_id = (SELECT gpuaas_principal())
  OR EXISTS (SELECT 1 FROM members WHERE members.principal_id = user_identities.principal_id)', 'SELECT');
SELECT gpuaas_isolate('group_members', 'EXISTS (SELECT 1 FROM principals WHERE principals.id = group_members.group_id
  AND principals.organization = ANY ((SELECT gpuaas_organizations())::text[]))');
-- Keys of service accounts, and one's own: never those of another member.
SELECT gpuaas_isolate(name::regclass, format('principal_id = (SELECT gpuaas_principal())
  OR EXISTS (SELECT 1 FROM principals WHERE principals.id = %I.principal_id
  AND principals.organization = ANY ((SELECT gpuaas_organizations())::text[]))', name), 'SELECT, INSERT, UPDATE')
FROM unnest(ARRAY['api_keys', 'credentials']) AS name;
SELECT gpuaas_isolate('credential_uses',
  'EXISTS (SELECT 1 FROM credentials WHERE credentials.id = credential_uses.credential_id)', 'SELECT');
SELECT gpuaas_isolate('request_keys', 'principal_id = (SELECT gpuaas_principal())', 'SELECT');

-- What belongs to a row that has an organization.
SELECT gpuaas_isolate('task_documents', 'EXISTS (SELECT 1 FROM tasks WHERE tasks.id = task_documents.task_id)', 'SELECT');
SELECT gpuaas_isolate('terminal_shares', 'EXISTS (SELECT 1 FROM terminals WHERE terminals.id = terminal_shares.terminal_id)');

-- Nodes are the platform's: seen while one holds an assignment of them.
SELECT gpuaas_isolate('nodes', 'EXISTS (SELECT 1 FROM assignments WHERE assignments.node_id = nodes.id
  AND assignments.until_ms IS NULL)', 'SELECT, UPDATE');
SELECT gpuaas_isolate(name::regclass, format('EXISTS (SELECT 1 FROM assignments
  WHERE assignments.node_id = %I.%I AND assignments.until_ms IS NULL)', name, node), 'SELECT')
FROM (VALUES ('sessions', 'node_id'), ('certificates', 'subject_id'), ('node_inventories', 'node_id'),
  ('node_inventory_changes', 'node_id'), ('node_health_facts', 'node_id'), ('node_health', 'node_id'),
  ('node_health_changes', 'node_id'), ('node_health_evidence', 'node_id'), ('node_health_overrides', 'node_id')) AS of_node (name, node);

-- The audit log: a tenant reads its own records and writes none, which is the platform's work (app/audit/append.ts).
SELECT gpuaas_isolate_owned('audit_leaves', 'SELECT');
SELECT gpuaas_isolate_owned('audit_chain', 'SELECT');
SELECT gpuaas_isolate('audit_clear', 'EXISTS (SELECT 1 FROM audit_leaves WHERE audit_leaves.id = audit_clear.leaf_id)', 'SELECT');
SELECT gpuaas_isolate('audit_pending', 'EXISTS (SELECT 1 FROM audit_leaves WHERE audit_leaves.ord = audit_pending.ord)', 'SELECT');

-- Tenants look here and find nothing: an id of the platform's reads as one that nobody has.
SELECT gpuaas_isolate('operations', 'false', 'SELECT, UPDATE');
-- A counter, raised by every change of who may do what.
SELECT gpuaas_isolate('policy', 'true', 'SELECT, UPDATE');

-- The platform's alone.
SELECT gpuaas_isolate(name::regclass) FROM unnest(ARRAY['join_tokens', 'authority', 'outbox', 'leases', 'store_check', 'audit_heads',
  'login_revocations', 'login_attempts', 'login_sessions', 'login_token_ids', 'break_glass_keys', 'break_glass_grants']) AS name;
GRANT SELECT ON schema_migrations TO gpuaas_app_system;
