import type { RequestKeyRow, RequestKeys } from '../port/request-keys.ts';
import type { Compiler } from './compiler.ts';
import { REQUEST_KEYS } from './schema.ts';

export function requestKeysTable(compiler: Compiler): RequestKeys {
	const insert = compiler.insert(REQUEST_KEYS);
	const byKey = compiler.prepare<{ principalId: string; method: string; requestId: string }>((db, slot) =>
		db
			.selectFrom('request_keys')
			.select(REQUEST_KEYS.columns)
			.where('principal_id', '=', slot('principalId'))
			.where('method', '=', slot('method'))
			.where('request_id', '=', slot('requestId')),
	);
	const prune = compiler.text(
		`delete from request_keys where (principal_id, method, request_id) in (
			select principal_id, method, request_id from request_keys where expires_at_ms <= ? limit ?)`,
	);
	return {
		*get(principalId, method, requestId) {
			return REQUEST_KEYS.first(yield byKey({ principalId, method, requestId }));
		},
		*insert(row: RequestKeyRow) {
			yield insert(row);
		},
		*prune(nowMs, limit) {
			return (yield { sql: prune, parameters: [nowMs, limit] }).changes;
		},
	};
}
