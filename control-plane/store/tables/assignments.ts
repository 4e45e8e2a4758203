import type { AssignmentRow, Assignments } from '../port/assignments.ts';
import type { Compiler } from './compiler.ts';
import { ASSIGNMENTS } from './schema.ts';

export function assignmentsTable(compiler: Compiler): Assignments {
	const insert = compiler.insert(ASSIGNMENTS);
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('assignments').select(ASSIGNMENTS.columns).where('id', '=', slot('id'))),
	);
	const openOfNode = compiler.prepare<{ nodeId: string }>((db, slot) =>
		compiler.locked(
			db
				.selectFrom('assignments')
				.select(ASSIGNMENTS.columns)
				.where('node_id', '=', slot('nodeId'))
				.where('until_ms', 'is', null)
				// The whole node's comes before those of its slices.
				.orderBy('slice_id')
				.limit(1),
		),
	);
	const openOfNodes = compiler.prepare<{ nodeIds: readonly string[] }>((db, slot) =>
		db
			.selectFrom('assignments')
			.select(ASSIGNMENTS.columns)
			.where(compiler.inList('node_id', slot('nodeIds')))
			.where('until_ms', 'is', null)
			.orderBy('node_id')
			.orderBy('slice_id'),
	);
	return {
		*insert(row: AssignmentRow) {
			yield insert(row);
		},
		*get(id) {
			return ASSIGNMENTS.first(yield byId({ id }));
		},
		*openOfNode(nodeId) {
			return ASSIGNMENTS.first(yield openOfNode({ nodeId }));
		},
		*openOfNodes(nodeIds) {
			return nodeIds.length === 0 ? [] : ASSIGNMENTS.all(yield openOfNodes({ nodeIds }));
		},
		*close(id, untilMs) {
			return yield* compiler.patch<AssignmentRow>(ASSIGNMENTS, ['id', id], { untilMs }, [{ sql: 'until_ms is null' }]);
		},
	};
}
