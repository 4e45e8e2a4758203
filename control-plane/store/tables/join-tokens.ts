import type { JoinTokenRow, JoinTokens } from '../port/join-tokens.ts';
import type { Compiler } from './compiler.ts';
import { JOIN_TOKENS } from './schema.ts';

export function joinTokensTable(compiler: Compiler): JoinTokens {
	const insert = compiler.insert(JOIN_TOKENS);
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('join_tokens').select(JOIN_TOKENS.columns).where('id', '=', slot('id'))),
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
			const conditions = [{ sql: 'state = ?', value: ifState }];
			return yield* compiler.patch<JoinTokenRow>(JOIN_TOKENS, ['id', id], patch, conditions);
		},
		*list({ afterId, limit }) {
			return JOIN_TOKENS.all(yield list({ afterId, limit }));
		},
	};
}
