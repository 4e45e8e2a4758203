import type { Authority } from '../port/authority.ts';
import type { Compiler } from './compiler.ts';
import { AUTHORITY } from './schema.ts';

export function authorityTable(compiler: Compiler): Authority {
	const get = compiler.prepare((db) => db.selectFrom('authority').select(AUTHORITY.columns).where('id', '=', 1));
	const first = compiler.prepare<{ document: string }>((db, slot) =>
		db
			.insertInto('authority')
			.values({ id: 1, version: 1, document: slot('document') })
			.onConflict((conflict) => conflict.column('id').doNothing()),
	);
	const next = compiler.prepare<{ document: string; ifVersion: number }>((db, slot) =>
		db
			.updateTable('authority')
			.set((of) => ({ document: slot('document'), version: of('version', '+', 1) }))
			.where('id', '=', 1)
			.where('version', '=', slot('ifVersion')),
	);
	return {
		*get() {
			return AUTHORITY.first(yield get({}));
		},
		*put(document, ifVersion) {
			const statement = ifVersion === 0 ? first({ document }) : next({ document, ifVersion });
			return (yield statement).changes > 0;
		},
	};
}
