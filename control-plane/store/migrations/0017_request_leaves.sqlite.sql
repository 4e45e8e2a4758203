-- The same logical model as the file for PostgreSQL beside it.
-- The audit record of the change that was answered: a retry of a privileged call waits for its signed head as the first
-- try did. Null: answered before this column was there, or by a replica of an older version.
ALTER TABLE request_keys ADD COLUMN leaf_id TEXT;
