import type { LoginDomainRow, LoginRevocationRow, Logins } from '../port/logins.ts';
import type { Compiler } from './compiler.ts';
import { LOGIN_DOMAINS, LOGIN_REVOCATIONS } from './login-schema.ts';

export const RAISE_EPOCH = 'update policy set epoch = epoch + 1 where id = 1';

export function loginsTable(compiler: Compiler): Logins {
	const insertDomain = compiler.insert(LOGIN_DOMAINS);
	const domain = compiler.select(LOGIN_DOMAINS, 'where issuer = ? and domain = ?');
	const domainById = compiler.selectLocked(LOGIN_DOMAINS, 'where id = ?');
	const deleteDomain = compiler.statement('delete from login_domains where id = ?');
	const listDomains = compiler.select(LOGIN_DOMAINS, 'where id > ? order by id limit ?');
	const insertRevocation = compiler.insert(LOGIN_REVOCATIONS);
	const raiseEpoch = compiler.statement(RAISE_EPOCH);
	// Two looks, each with its index.
	const bySession = compiler.statement(
		`select max(revoked_at_ms) as "at" from login_revocations where issuer = ? and provider_session = ? and provider_session <> ''`,
	);
	const bySubject = compiler.statement(
		`select max(revoked_at_ms) as "at" from login_revocations where issuer = ? and subject = ? and subject <> '' and provider_session = ''`,
	);
	const useTokenId = compiler.statement(
		'insert into login_token_ids (id, expires_at_ms) values (?, ?) on conflict (id) do nothing',
	);
	const sweeps = ['login_revocations', 'login_token_ids'].map((table) =>
		compiler.statement(`delete from ${table} where expires_at_ms < ?`),
	);
	return {
		*insertDomain(row: LoginDomainRow) {
			yield insertDomain(row);
		},
		*getDomain(issuer, name) {
			return LOGIN_DOMAINS.first(yield domain(issuer, name));
		},
		*deleteDomain(id) {
			const row = LOGIN_DOMAINS.first(yield domainById(id));
			if (row !== undefined) yield deleteDomain(id);
			return row;
		},
		*listDomains({ afterId, limit }) {
			return LOGIN_DOMAINS.all(yield listDomains(afterId, limit));
		},
		*insertRevocation(row: LoginRevocationRow) {
			yield insertRevocation(row);
			yield raiseEpoch();
		},
		*revokedAt(issuer, subject, providerSession) {
			const found: number[] = [];
			for (const { at } of [
				(yield bySession(issuer, providerSession)).rows[0] ?? {},
				(yield bySubject(issuer, subject)).rows[0] ?? {},
			])
				if (at !== null && at !== undefined) found.push(Number(at));
			return found.length === 0 ? undefined : Math.max(...found);
		},
		*useTokenId(id, expiresAtMs) {
			return (yield useTokenId(id, expiresAtMs)).changes === 1;
		},
		*sweep(beforeMs) {
			let swept = 0;
			for (const sweep of sweeps) swept += (yield sweep(beforeMs)).changes;
			return swept;
		},
	};
}
