import type { ApiKeyRow, ApiKeys, CredentialRow } from '../port/api-keys.ts';
import type { Compiler } from './compiler.ts';
import { API_KEYS, CREDENTIAL_USES, CREDENTIALS } from './iam-schema.ts';
import { raiseEpoch } from './policy-epoch.ts';

export function apiKeysTable(compiler: Compiler): ApiKeys {
	return { ...keys(compiler), ...credentials(compiler), ...uses(compiler) };
}

function keys(compiler: Compiler): Pick<ApiKeys, 'insert' | 'get' | 'find' | 'update' | 'list' | 'revokeAllOf'> {
	const insert = compiler.insert(API_KEYS);
	const raise = raiseEpoch(compiler);
	const byId = compiler.selectLocked(API_KEYS, 'where id = ?');
	const found = compiler.select(API_KEYS, 'where id = ?');
	const list = compiler.select(API_KEYS, `where ${compiler.inListText('principal_id')} and id > ? order by id limit ?`);
	const revokeKeys = compiler.statement(
		'update api_keys set revoked_at_ms = ?, revoked_reason = ?, version = version + 1 where principal_id = ? and revoked_at_ms is null',
	);
	const revokeSecrets = compiler.statement(
		'update credentials set revoked_at_ms = ? where principal_id = ? and revoked_at_ms is null',
	);
	return {
		*insert(row: ApiKeyRow) {
			yield insert(row);
			yield* raise();
		},
		*get(id) {
			return API_KEYS.first(yield byId(id));
		},
		*find(id) {
			return API_KEYS.first(yield found(id));
		},
		*update(id, patch, ifVersion) {
			const conditions = ifVersion === undefined ? [] : [{ sql: 'version = ?', value: ifVersion }];
			const changed = yield* compiler.patch<ApiKeyRow>(
				API_KEYS,
				['id', id],
				patch,
				conditions,
				'version = version + 1',
			);
			if (changed !== undefined) yield* raise();
			return changed;
		},
		*list({ principalIds, afterId, limit }) {
			return principalIds.length === 0 ? [] : API_KEYS.all(yield list(principalIds, afterId, limit));
		},
		*revokeAllOf(principalId, atMs, reason) {
			yield revokeKeys(atMs, reason, principalId);
			yield revokeSecrets(atMs, principalId);
			yield* raise();
		},
	};
}

type Credentials =
	| 'insertCredential'
	| 'getCredential'
	| 'countLive'
	| 'credentialsOf'
	| 'revokeCredential'
	| 'setExpiry';

function credentials(compiler: Compiler): Pick<ApiKeys, Credentials> {
	const insert = compiler.insert(CREDENTIALS);
	const raise = raiseEpoch(compiler);
	const byId = compiler.select(CREDENTIALS, 'where id = ?');
	const live = compiler.statement(
		'select count(distinct key_id) as count from credentials where principal_id = ? and expires_at_ms > ? and revoked_at_ms is null and key_id <> ?',
	);
	const ofKeys = compiler.select(CREDENTIALS, `where ${compiler.inListText('key_id')} order by created_at_ms, id`);
	return {
		*insertCredential(row: CredentialRow) {
			yield insert(row);
			yield* raise();
		},
		*getCredential(id) {
			return CREDENTIALS.first(yield byId(id));
		},
		*countLive(principalId, nowMs, exceptKeyId) {
			return Number((yield live(principalId, nowMs, exceptKeyId)).rows[0]?.count);
		},
		*credentialsOf(keyIds) {
			return keyIds.length === 0 ? [] : CREDENTIALS.all(yield ofKeys(keyIds));
		},
		*revokeCredential(id, atMs) {
			const conditions = [{ sql: 'revoked_at_ms is null' }];
			const patch = { revokedAtMs: atMs };
			const revoked = yield* compiler.patch<CredentialRow>(CREDENTIALS, ['id', id], patch, conditions);
			if (revoked !== undefined) yield* raise();
			return revoked !== undefined;
		},
		*setExpiry(id, expiresAtMs) {
			yield* compiler.patch<CredentialRow>(CREDENTIALS, ['id', id], { expiresAtMs });
			yield* raise();
		},
	};
}

function uses(compiler: Compiler): Pick<ApiKeys, 'recordUses' | 'usesOf'> {
	const put = compiler.statement(
		`insert into credential_uses (credential_id, used_at_ms, peer) values (?, ?, ?)
		on conflict (credential_id) do update set used_at_ms = excluded.used_at_ms, peer = excluded.peer
		where credential_uses.used_at_ms < excluded.used_at_ms`,
	);
	const list = compiler.select(CREDENTIAL_USES, `where ${compiler.inListText('credential_id')}`);
	return {
		*recordUses(rows) {
			// In one order, so that two replicas never wait for each other.
			for (const { credentialId, usedAtMs, peer } of rows.toSorted((a, b) =>
				a.credentialId < b.credentialId ? -1 : 1,
			))
				yield put(credentialId, usedAtMs, peer);
		},
		*usesOf(ids) {
			return ids.length === 0 ? [] : CREDENTIAL_USES.all(yield list(ids));
		},
	};
}
