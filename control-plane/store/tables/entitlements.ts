import type { EntitlementRow, Entitlements } from '../port/entitlements.ts';
import type { Compiler } from './compiler.ts';
import { ENTITLEMENTS } from './quota-schema.ts';

export function entitlementsTable(compiler: Compiler): Entitlements {
	const insert = compiler.insert(ENTITLEMENTS);
	const byId = compiler.selectLocked(ENTITLEMENTS, 'where id = ?');
	const inForce = compiler.select(
		ENTITLEMENTS,
		`where ${compiler.inListText('scope')} and ${compiler.inListText('subject')}
		and from_ms <= ? and (until_ms is null or until_ms > ?) order by id`,
	);
	const at = compiler.select(ENTITLEMENTS, `where ${compiler.inListText('scope')} and id > ? order by id limit ?`);
	const open = compiler.statement(
		'select count(*) as count from entitlements where scope = ? and (until_ms is null or until_ms > ?)',
	);
	return {
		*insert(row: EntitlementRow) {
			yield insert(row);
		},
		*get(id) {
			return ENTITLEMENTS.first(yield byId(id));
		},
		*end(id, untilMs, ifVersion) {
			const conditions = [{ sql: 'version = ?', value: ifVersion }];
			return yield* compiler.patch<EntitlementRow>(
				ENTITLEMENTS,
				['id', id],
				{ untilMs },
				conditions,
				'version = version + 1',
			);
		},
		*inForce(scopes, subjects, atMs) {
			return subjects.length === 0 ? [] : ENTITLEMENTS.all(yield inForce(scopes, subjects, atMs, atMs));
		},
		*list({ scopes, afterId, limit }) {
			return scopes.length === 0 ? [] : ENTITLEMENTS.all(yield at(scopes, afterId, limit));
		},
		*countOpen(scope, nowMs) {
			return Number((yield open(scope, nowMs)).rows[0]?.count);
		},
	};
}
