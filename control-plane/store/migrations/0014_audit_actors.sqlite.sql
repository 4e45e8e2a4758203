-- The same logical model as the file for PostgreSQL beside it.
-- Whether who did it belonged to the record's organization then: who has left since is still named to it. Null: not known.
ALTER TABLE audit_leaves ADD COLUMN actor_is_own INTEGER;
