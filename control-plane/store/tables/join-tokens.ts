import type { JoinTokenRow, JoinTokens } from '../port/join-tokens.ts';
import type { Compiler } from './compiler.ts';
import { JOIN_TOKENS } from './schema.ts';

export function joinTokensTable(compiler: Compiler): JoinTokens {
	const insert = compiler.insert(JOIN_TOKENS);
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		db.selectFrom('join_tokens').select(JOIN_TOKENS.columns).where('id', '=', slot('id')),
	);
	const list = compiler.prepare<{ afterId: string; limit: number }>((db, slot) =>
		db
			.selectFrom('join_tokens')
			.select(JOIN_TOKENS.columns)
			.where('id', '>', slot('afterId'))
			.orderBy('id')
			.limit(slot('limit')),
	);
	return {
		*insert(row: JoinTokenRow) {
			yield insert(row);
		},
		*get(id) {
			return JOIN_TOKENS.first(yield byId({ id }));
		},
		*update(id, patch, ifState) {
			const conditions = [
				{ sql: 'id = ?', value: id },
				{ sql: 'state = ?', value: ifState },
			];
			return JOIN_TOKENS.first(yield compiler.patch<JoinTokenRow>(JOIN_TOKENS, patch, conditions));
		},
		*list({ afterId, limit }) {
			return JOIN_TOKENS.all(yield list({ afterId, limit }));
		},
	};
}
