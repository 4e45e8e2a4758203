-- The same logical model as the file for PostgreSQL beside it, which also has row security; SQLite has none.
-- Audit rows carry the organization that their leaf names, copied like action and target: so a tenant can list its own.
-- The leaves themselves stay as they are, byte for byte; only the triggers that refuse every update step aside meanwhile.
DROP TRIGGER audit_leaves_update;
DROP TRIGGER audit_chain_update;
ALTER TABLE audit_leaves ADD COLUMN organization TEXT;
ALTER TABLE audit_chain ADD COLUMN organization TEXT;
UPDATE audit_leaves SET organization = nullif(CAST(leaf AS TEXT) ->> '$.organization', '') WHERE json_valid(CAST(leaf AS TEXT));
UPDATE audit_chain SET organization = (SELECT organization FROM audit_leaves WHERE audit_leaves.ord = audit_chain.ord);
CREATE INDEX audit_chain_organization ON audit_chain (organization, seq) WHERE organization IS NOT NULL;
CREATE TRIGGER audit_leaves_update BEFORE UPDATE ON audit_leaves
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
CREATE TRIGGER audit_chain_update BEFORE UPDATE ON audit_chain
BEGIN SELECT RAISE(ABORT, 'GPUAAS_AUDIT_APPEND_ONLY'); END;
