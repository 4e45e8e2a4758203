import type { ApprovalRow } from '../port/approvals.ts';
import type { BreakGlassGrantRow, BreakGlassKeyRow } from '../port/break-glass.ts';
import type { BrowserSessionRow, LoginAttemptRow } from '../port/browser-sessions.ts';
import type { LoginDomainRow, LoginRevocationRow } from '../port/logins.ts';
import { Table } from './columns.ts';

/** The tables of logins, approvals and break-glass. */
export const LOGIN_DOMAINS = new Table<LoginDomainRow>('login_domains', {
	id: 'text',
	issuer: 'text',
	domain: 'text',
	organization: 'text',
	createdAtMs: 'int',
	createdBy: 'text',
});

export const LOGIN_REVOCATIONS = new Table<LoginRevocationRow>('login_revocations', {
	id: 'text',
	issuer: 'text',
	subject: 'text',
	providerSession: 'text',
	revokedAtMs: 'int',
	expiresAtMs: 'int',
});

export const LOGIN_ATTEMPTS = new Table<LoginAttemptRow>('login_attempts', {
	id: 'text',
	secretSha256: 'bytes',
	issuer: 'text',
	sealed: 'bytes',
	returnTo: 'text',
	createdAtMs: 'int',
	expiresAtMs: 'int',
	usedAtMs: 'int',
});

export const LOGIN_SESSIONS = new Table<BrowserSessionRow>('login_sessions', {
	id: 'text',
	secretSha256: 'bytes',
	previousSha256: 'bytes',
	principalId: 'text',
	issuer: 'text',
	subject: 'text',
	providerSession: 'text',
	acr: 'text',
	authenticatedAtMs: 'int',
	sealedRefresh: 'bytes',
	createdAtMs: 'int',
	rotatedAtMs: 'int',
	checkedAtMs: 'int',
	expiresAtMs: 'int',
	endedAtMs: 'int',
	endedReason: 'text',
});

export const APPROVALS = new Table<ApprovalRow>('approvals', {
	id: 'text',
	requesterId: 'text',
	scope: 'text',
	method: 'text',
	digestSha256: 'bytes',
	summary: 'text',
	reason: 'text',
	state: 'text',
	createdAtMs: 'int',
	expiresAtMs: 'int',
	decidedBy: 'text',
	decidedAtMs: 'int',
	decisionReason: 'text',
	consumedAtMs: 'int',
	version: 'int',
});

export const BREAK_GLASS_KEYS = new Table<BreakGlassKeyRow>('break_glass_keys', {
	id: 'text',
	name: 'text',
	kind: 'text',
	publicKey: 'bytes',
	rpId: 'text',
	signCount: 'int',
	createdAtMs: 'int',
	createdBy: 'text',
	removedAtMs: 'int',
});

export const BREAK_GLASS_GRANTS = new Table<BreakGlassGrantRow>('break_glass_grants', {
	id: 'text',
	challenge: 'bytes',
	reason: 'text',
	peer: 'text',
	requestedAtMs: 'int',
	challengeExpiresAtMs: 'int',
	signers: 'json',
	secretSha256: 'bytes',
	activatedAtMs: 'int',
	expiresAtMs: 'int',
	endedAtMs: 'int',
	version: 'int',
});
