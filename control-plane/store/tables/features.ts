import type { FeatureRow, Features } from '../port/features.ts';
import type { Compiler } from './compiler.ts';
import { FEATURES } from './quota-schema.ts';

export function featuresTable(compiler: Compiler): Features {
	const insert = compiler.insert(FEATURES);
	const one = compiler.selectLocked(FEATURES, 'where name = ? and scope = ?');
	const update = compiler.statement(
		`update features set percentage = ?, reason = ?, changed_at_ms = ?, changed_by = ?, version = version + 1
		where name = ? and scope = ? and version = ?`,
	);
	const remove = compiler.statement('delete from features where name = ? and scope = ? and version = ?');
	const count = compiler.statement('select count(*) as count from features');
	const all = compiler.select(FEATURES, 'order by name, scope limit ?');
	const page = compiler.select(FEATURES, `where name || ' ' || scope > ? order by name || ' ' || scope limit ?`);
	return {
		*get(name, scope) {
			return FEATURES.first(yield one(name, scope));
		},
		*insert(row: FeatureRow) {
			yield insert(row);
		},
		*update(name, scope, { percentage, reason, changedAtMs, changedBy }, ifVersion) {
			const { changes } = yield update(percentage, reason, changedAtMs, changedBy, name, scope, ifVersion);
			return changes === 0 ? undefined : FEATURES.only(yield one(name, scope));
		},
		*delete(name, scope, ifVersion) {
			return (yield remove(name, scope, ifVersion)).changes > 0;
		},
		*count() {
			return Number((yield count()).rows[0]?.count);
		},
		*all(limit) {
			return FEATURES.all(yield all(limit));
		},
		*list({ afterId, limit }) {
			return FEATURES.all(yield page(afterId, limit));
		},
	};
}
