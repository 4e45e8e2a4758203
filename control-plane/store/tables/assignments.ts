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
	const openOfProject = compiler.prepare<{ organization: string; project: string; limit: number }>((db, slot) =>
		db
			.selectFrom('assignments')
			.select(ASSIGNMENTS.columns)
			.where('organization', '=', slot('organization'))
			.where('project', '=', slot('project'))
			.where('until_ms', 'is', null)
			.orderBy('node_id')
			.orderBy('slice_id')
			.limit(slot('limit')),
	);
	const during = compiler.prepare<{ nodeId: string; fromMs: number; untilMs: number; limit: number }>((db, slot) =>
		db
			.selectFrom('assignments')
			.select(ASSIGNMENTS.columns)
			.where('node_id', '=', slot('nodeId'))
			.where('from_ms', '<', slot('untilMs'))
			.where((row) => row.or([row('until_ms', 'is', null), row('until_ms', '>', slot('fromMs'))]))
			.orderBy('from_ms', 'desc')
			.orderBy('id', 'desc')
			.limit(slot('limit')),
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
		*openOfProject({ organization, project }, limit) {
			return ASSIGNMENTS.all(yield openOfProject({ organization, project, limit }));
		},
		*ofNodeDuring(nodeId, fromMs, untilMs, limit) {
			return ASSIGNMENTS.all(yield during({ nodeId, fromMs, untilMs, limit }));
		},
		*close(id, untilMs) {
			return yield* compiler.patch<AssignmentRow>(ASSIGNMENTS, ['id', id], { untilMs }, [{ sql: 'until_ms is null' }]);
		},
	};
}
