-- The same logical model as the file beside it. Booleans are 0 or 1, JSON is text.
-- Logins of people: who may come in by their address, what was logged out, sessions in browsers, two-person approvals,
-- and the way in when the identity provider is down.

-- A domain whose verified addresses at this issuer belong to an organization: its people come in without an invitation.
CREATE TABLE login_domains (
  id TEXT NOT NULL PRIMARY KEY,
  issuer TEXT NOT NULL,
  domain TEXT NOT NULL,
  organization TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX login_domains_domain ON login_domains (issuer, domain);

-- Tokens of this session (or, with an empty session, of this subject) that were made before are void. Swept when the last
-- of them has expired.
CREATE TABLE login_revocations (
  id TEXT NOT NULL PRIMARY KEY,
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  provider_session TEXT NOT NULL,
  revoked_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX login_revocations_session ON login_revocations (issuer, provider_session) WHERE provider_session <> '';
CREATE INDEX login_revocations_subject ON login_revocations (issuer, subject) WHERE subject <> '';
CREATE INDEX login_revocations_expiry ON login_revocations (expires_at_ms);

-- A login that a browser was sent away for: single use, bound to the browser by a cookie of which this is the hash.
CREATE TABLE login_attempts (
  id TEXT NOT NULL PRIMARY KEY,
  secret_sha256 BLOB NOT NULL,
  issuer TEXT NOT NULL,
  sealed BLOB NOT NULL,
  return_to TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  used_at_ms INTEGER
) STRICT;
CREATE INDEX login_attempts_expiry ON login_attempts (expires_at_ms);

-- Sessions of browsers. The cookie's secret is kept as a hash, the provider's refresh token sealed by a key outside the
-- database; a rotated secret is kept one step back so that requests under way still count.
CREATE TABLE login_sessions (
  id TEXT NOT NULL PRIMARY KEY,
  secret_sha256 BLOB NOT NULL,
  previous_sha256 BLOB,
  principal_id TEXT NOT NULL REFERENCES principals (id),
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  provider_session TEXT NOT NULL,
  acr TEXT NOT NULL,
  authenticated_at_ms INTEGER NOT NULL,
  sealed_refresh BLOB,
  created_at_ms INTEGER NOT NULL,
  rotated_at_ms INTEGER NOT NULL,
  checked_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  ended_at_ms INTEGER,
  ended_reason TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX login_sessions_secret ON login_sessions (secret_sha256);
CREATE INDEX login_sessions_previous ON login_sessions (previous_sha256) WHERE previous_sha256 IS NOT NULL;
CREATE INDEX login_sessions_provider ON login_sessions (issuer, provider_session) WHERE ended_at_ms IS NULL;
CREATE INDEX login_sessions_subject ON login_sessions (issuer, subject) WHERE ended_at_ms IS NULL;
CREATE INDEX login_sessions_checks ON login_sessions (checked_at_ms) WHERE ended_at_ms IS NULL;

-- Ids of logout and other tokens that may be used once, until they expire.
CREATE TABLE login_token_ids (
  id TEXT NOT NULL PRIMARY KEY,
  expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX login_token_ids_expiry ON login_token_ids (expires_at_ms);

-- Two-person approvals: what a service account can't prove by a second factor, a second person answers for.
CREATE TABLE approvals (
  id TEXT NOT NULL PRIMARY KEY,
  requester_id TEXT NOT NULL REFERENCES principals (id),
  method TEXT NOT NULL,
  digest_sha256 BLOB NOT NULL,
  summary TEXT NOT NULL,
  reason TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  decided_by TEXT,
  decided_at_ms INTEGER,
  decision_reason TEXT NOT NULL,
  consumed_at_ms INTEGER,
  version INTEGER NOT NULL
) STRICT;
CREATE INDEX approvals_requester ON approvals (requester_id, id);
CREATE INDEX approvals_digest ON approvals (digest_sha256) WHERE state = 'approved';

CREATE TABLE break_glass_keys (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  public_key BLOB NOT NULL,
  rp_id TEXT NOT NULL,
  sign_count INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  removed_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX break_glass_keys_public_key ON break_glass_keys (public_key) WHERE removed_at_ms IS NULL;

CREATE TABLE break_glass_grants (
  id TEXT NOT NULL PRIMARY KEY,
  challenge BLOB NOT NULL,
  reason TEXT NOT NULL,
  peer TEXT NOT NULL,
  requested_at_ms INTEGER NOT NULL,
  challenge_expires_at_ms INTEGER NOT NULL,
  signers TEXT NOT NULL CHECK (json_valid(signers)),
  secret_sha256 BLOB,
  activated_at_ms INTEGER,
  expires_at_ms INTEGER,
  ended_at_ms INTEGER,
  version INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX break_glass_grants_secret ON break_glass_grants (secret_sha256) WHERE secret_sha256 IS NOT NULL;
