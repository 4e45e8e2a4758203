import type { OperationRow, Operations } from '../port/operations.ts';
import type { Compiler } from './compiler.ts';
import { OPERATIONS } from './schema.ts';

export function operationsTable(compiler: Compiler): Operations {
	const insert = compiler.insert(OPERATIONS);
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('operations').select(OPERATIONS.columns).where('id', '=', slot('id'))),
	);
	const list = compiler.prepareShapes<{ afterId: string; limit: number }, 'top' | 'below'>((db, slot, shape) => {
		const query = db.selectFrom('operations').select(OPERATIONS.columns).orderBy('id', 'desc').limit(slot('limit'));
		return shape === 'top' ? query : query.where('id', '<', slot('afterId'));
	});
	const running = compiler.prepare<{ limit: number }>((db, slot) =>
		db
			.selectFrom('operations')
			.select(OPERATIONS.columns)
			.where('state', '=', 'running')
			.orderBy('id')
			.limit(slot('limit')),
	);
	const runningOf = compiler.prepare<{ target: string; kind: OperationRow['kind'] }>((db, slot) =>
		compiler.locked(
			db
				.selectFrom('operations')
				.select(OPERATIONS.columns)
				.where('state', '=', 'running')
				.where('target', '=', slot('target'))
				.where('kind', '=', slot('kind'))
				.orderBy('id')
				.limit(1),
		),
	);
	return {
		*insert(row: OperationRow) {
			yield insert(row);
		},
		*get(id) {
			return OPERATIONS.first(yield byId({ id }));
		},
		*update(id, patch) {
			const conditions = [{ sql: `state = 'running'` }];
			return yield* compiler.patch<OperationRow>(OPERATIONS, ['id', id], patch, conditions);
		},
		*list({ afterId, limit }) {
			return OPERATIONS.all(yield list(afterId === '' ? 'top' : 'below', { afterId, limit }));
		},
		*listRunning(limit) {
			return OPERATIONS.all(yield running({ limit }));
		},
		*runningOfTarget(target, kind) {
			return OPERATIONS.first(yield runningOf({ target, kind }));
		},
	};
}
