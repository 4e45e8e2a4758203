-- At which scope the thing stands that an approval is asked for: its administrators decide. Before, only the platform's did.
ALTER TABLE approvals ADD COLUMN scope TEXT NOT NULL DEFAULT 'platform';
CREATE INDEX approvals_scope ON approvals (scope, id);
-- Unanswered challenges are counted for each address.
CREATE INDEX break_glass_grants_unanswered ON break_glass_grants (peer) WHERE activated_at_ms IS NULL;
