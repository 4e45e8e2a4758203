-- Whether who did it belonged to the record's organization then: who has left since is still named to it. Null: not known.
ALTER TABLE audit_leaves ADD COLUMN actor_is_own bigint;

-- A replica of an older version may still write while this one starts, and knows nothing of organizations: what it leaves
-- out is taken from the leaf, or the copies would differ for ever.
CREATE FUNCTION gpuaas_audit_leaf_organization() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.organization IS NULL THEN
    BEGIN NEW.organization := nullif(convert_from(NEW.leaf, 'UTF8')::jsonb ->> 'organization', '');
    EXCEPTION WHEN OTHERS THEN NULL; END;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_leaves_organization BEFORE INSERT ON audit_leaves FOR EACH ROW
EXECUTE FUNCTION gpuaas_audit_leaf_organization();
CREATE FUNCTION gpuaas_audit_chain_organization() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.organization IS NULL THEN
    NEW.organization := (SELECT organization FROM audit_leaves WHERE audit_leaves.ord = NEW.ord);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_chain_organization BEFORE INSERT ON audit_chain FOR EACH ROW
EXECUTE FUNCTION gpuaas_audit_chain_organization();
