import type { BrowserSessionRow, BrowserSessions, LoginAttemptRow } from '../port/browser-sessions.ts';
import type { Compiler } from './compiler.ts';
import { LOGIN_ATTEMPTS, LOGIN_SESSIONS } from './login-schema.ts';
import { RAISE_EPOCH } from './logins.ts';

const OPEN = [{ sql: 'ended_at_ms is null' }];

export function browserSessionsTable(compiler: Compiler): BrowserSessions {
	const insertAttempt = compiler.insert(LOGIN_ATTEMPTS);
	const unusedAttempt = compiler.select(LOGIN_ATTEMPTS, 'where id = ? and used_at_ms is null');
	const insert = compiler.insert(LOGIN_SESSIONS);
	const byId = compiler.selectLocked(LOGIN_SESSIONS, 'where id = ?');
	const bySecret = compiler.select(LOGIN_SESSIONS, 'where secret_sha256 = ?');
	const byPrevious = compiler.select(LOGIN_SESSIONS, 'where previous_sha256 = ?');
	const ofProvider = compiler.select(
		LOGIN_SESSIONS,
		'where issuer = ? and provider_session = ? and ended_at_ms is null order by id limit 1000',
	);
	const ofSubject = compiler.select(
		LOGIN_SESSIONS,
		'where issuer = ? and subject = ? and ended_at_ms is null order by id limit 1000',
	);
	const unchecked = compiler.select(
		LOGIN_SESSIONS,
		'where ended_at_ms is null and checked_at_ms < ? and sealed_refresh is not null order by checked_at_ms limit ?',
	);
	const raiseEpoch = compiler.statement(RAISE_EPOCH);
	const sweepAttempts = compiler.statement('delete from login_attempts where expires_at_ms < ?');
	const sweepSessions = compiler.statement('delete from login_sessions where ended_at_ms < ? or expires_at_ms < ?');
	return {
		*insertAttempt(row: LoginAttemptRow) {
			yield insertAttempt(row);
		},
		*hasAttempt(id) {
			return LOGIN_ATTEMPTS.first(yield unusedAttempt(id)) !== undefined;
		},
		*useAttempt(id, atMs) {
			const unused = [{ sql: 'used_at_ms is null' }];
			return yield* compiler.patch<LoginAttemptRow>(LOGIN_ATTEMPTS, ['id', id], { usedAtMs: atMs }, unused);
		},
		*insert(row: BrowserSessionRow) {
			yield insert(row);
		},
		*get(id) {
			return LOGIN_SESSIONS.first(yield byId(id));
		},
		*getBySecret(secretSha256) {
			return LOGIN_SESSIONS.first(yield bySecret(secretSha256)) ?? LOGIN_SESSIONS.first(yield byPrevious(secretSha256));
		},
		*rotate(id, ifSecret, { secretSha256, atMs }) {
			const patch = { secretSha256, previousSha256: ifSecret, rotatedAtMs: atMs };
			const conditions = [...OPEN, { sql: 'secret_sha256 = ?', value: ifSecret }];
			return yield* compiler.patch<BrowserSessionRow>(LOGIN_SESSIONS, ['id', id], patch, conditions);
		},
		*claimCheck(id, ifCheckedAtMs, atMs) {
			const conditions = [...OPEN, { sql: 'checked_at_ms = ?', value: ifCheckedAtMs }];
			const patch = { checkedAtMs: atMs };
			return (yield* compiler.patch<BrowserSessionRow>(LOGIN_SESSIONS, ['id', id], patch, conditions)) !== undefined;
		},
		*checked(id, sealedRefresh, atMs) {
			const patch = { sealedRefresh, checkedAtMs: atMs };
			yield* compiler.patch<BrowserSessionRow>(LOGIN_SESSIONS, ['id', id], patch, OPEN);
		},
		*end(id, endedReason, atMs) {
			const patch = { endedAtMs: atMs, endedReason, sealedRefresh: null };
			const ended = yield* compiler.patch<BrowserSessionRow>(LOGIN_SESSIONS, ['id', id], patch, OPEN);
			if (ended !== undefined) yield raiseEpoch();
			return ended;
		},
		*openOf(issuer, subject, providerSession) {
			if (providerSession !== '') return LOGIN_SESSIONS.all(yield ofProvider(issuer, providerSession));
			return LOGIN_SESSIONS.all(yield ofSubject(issuer, subject));
		},
		*listUnchecked(beforeMs, limit) {
			return LOGIN_SESSIONS.all(yield unchecked(beforeMs, limit));
		},
		*sweep(beforeMs) {
			const attempts = (yield sweepAttempts(beforeMs)).changes;
			return attempts + (yield sweepSessions(beforeMs, beforeMs)).changes;
		},
	};
}
