-- The same logical model as the file beside it, in PostgreSQL.
-- What one person has open is counted at each opening.
CREATE INDEX terminals_person ON terminals (created_by, id) WHERE state <> 'closed';
