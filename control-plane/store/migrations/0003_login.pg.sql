-- The same logical model as the file beside it.
-- Logins of people: who may come in by their address, what was logged out, sessions in browsers, two-person approvals,
-- and the way in when the identity provider is down.

-- A domain whose verified addresses at this issuer belong to an organization: its people come in without an invitation.
CREATE TABLE login_domains (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  issuer text COLLATE "C" NOT NULL,
  domain text COLLATE "C" NOT NULL,
  organization text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX login_domains_domain ON login_domains (issuer, domain);

-- Tokens of this session (or, with an empty session, of this subject) that were made before are void. Swept when the last
-- of them has expired.
CREATE TABLE login_revocations (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  issuer text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL,
  provider_session text COLLATE "C" NOT NULL,
  revoked_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL
);
CREATE INDEX login_revocations_session ON login_revocations (issuer, provider_session) WHERE provider_session <> '';
CREATE INDEX login_revocations_subject ON login_revocations (issuer, subject) WHERE subject <> '';
CREATE INDEX login_revocations_expiry ON login_revocations (expires_at_ms);

-- A login that a browser was sent away for: single use, bound to the browser by a cookie of which this is the hash.
CREATE TABLE login_attempts (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  secret_sha256 bytea NOT NULL,
  issuer text COLLATE "C" NOT NULL,
  sealed bytea NOT NULL,
  return_to text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL,
  used_at_ms bigint
);
CREATE INDEX login_attempts_expiry ON login_attempts (expires_at_ms);

-- Sessions of browsers. The cookie's secret is kept as a hash, the provider's refresh token sealed by a key outside the
-- database; a rotated secret is kept one step back so that requests under way still count.
CREATE TABLE login_sessions (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  secret_sha256 bytea NOT NULL,
  previous_sha256 bytea,
  principal_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  issuer text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL,
  provider_session text COLLATE "C" NOT NULL,
  acr text COLLATE "C" NOT NULL,
  authenticated_at_ms bigint NOT NULL,
  sealed_refresh bytea,
  created_at_ms bigint NOT NULL,
  rotated_at_ms bigint NOT NULL,
  checked_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL,
  ended_at_ms bigint,
  ended_reason text COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX login_sessions_secret ON login_sessions (secret_sha256);
CREATE INDEX login_sessions_previous ON login_sessions (previous_sha256) WHERE previous_sha256 IS NOT NULL;
CREATE INDEX login_sessions_provider ON login_sessions (issuer, provider_session) WHERE ended_at_ms IS NULL;
CREATE INDEX login_sessions_subject ON login_sessions (issuer, subject) WHERE ended_at_ms IS NULL;
CREATE INDEX login_sessions_checks ON login_sessions (checked_at_ms) WHERE ended_at_ms IS NULL;

-- Ids of logout and other tokens that may be used once, until they expire.
CREATE TABLE login_token_ids (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  expires_at_ms bigint NOT NULL
);
CREATE INDEX login_token_ids_expiry ON login_token_ids (expires_at_ms);

-- Two-person approvals: what a service account can't prove by a second factor, a second person answers for.
CREATE TABLE approvals (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  requester_id text COLLATE "C" NOT NULL REFERENCES principals (id),
  method text COLLATE "C" NOT NULL,
  digest_sha256 bytea NOT NULL,
  summary text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL,
  decided_by text COLLATE "C",
  decided_at_ms bigint,
  decision_reason text COLLATE "C" NOT NULL,
  consumed_at_ms bigint,
  version bigint NOT NULL
);
CREATE INDEX approvals_requester ON approvals (requester_id, id);
CREATE INDEX approvals_digest ON approvals (digest_sha256) WHERE state = 'approved';

CREATE TABLE break_glass_keys (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  public_key bytea NOT NULL,
  rp_id text COLLATE "C" NOT NULL,
  sign_count bigint NOT NULL,
  created_at_ms bigint NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  removed_at_ms bigint
);
CREATE UNIQUE INDEX break_glass_keys_public_key ON break_glass_keys (public_key) WHERE removed_at_ms IS NULL;

CREATE TABLE break_glass_grants (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  challenge bytea NOT NULL,
  reason text COLLATE "C" NOT NULL,
  peer text COLLATE "C" NOT NULL,
  requested_at_ms bigint NOT NULL,
  challenge_expires_at_ms bigint NOT NULL,
  signers jsonb NOT NULL,
  secret_sha256 bytea,
  activated_at_ms bigint,
  expires_at_ms bigint,
  ended_at_ms bigint,
  version bigint NOT NULL
);
CREATE UNIQUE INDEX break_glass_grants_secret ON break_glass_grants (secret_sha256) WHERE secret_sha256 IS NOT NULL;
