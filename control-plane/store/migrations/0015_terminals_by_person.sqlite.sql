-- The same logical model as the file for PostgreSQL beside it.
-- What one person has open is counted at each opening.
CREATE INDEX terminals_person ON terminals (created_by, id) WHERE state <> 'closed';
