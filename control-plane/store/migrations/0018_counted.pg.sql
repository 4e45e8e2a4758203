-- Limits of number are judged in each unit that makes one more: each counts what lives, from an index of just that.
CREATE INDEX roles_live ON roles (organization) WHERE deleted_at_ms IS NULL;
CREATE INDEX invitations_open ON invitations (organization, expires_at_ms) WHERE accepted_at_ms IS NULL AND revoked_at_ms IS NULL;
CREATE INDEX credentials_live ON credentials (principal_id, expires_at_ms) WHERE revoked_at_ms IS NULL;
