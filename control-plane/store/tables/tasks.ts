import { sql } from 'kysely';
import { assert } from '../../../kit/assert.ts';
import type { TaskPatch, TaskRow, TaskState, Tasks } from '../port/tasks.ts';
import type { Compiler, Condition } from './compiler.ts';
import { TASKS } from './schema.ts';
import { taskDocumentsTable } from './task-documents.ts';
import { inVisible, type VisibilityShape, visibilityShape, visibilityText } from './visibility.ts';

/** As in the partial index tasks_open: SQLite uses it only for a query that says the same in the same words. */
export const OPEN_SQL = `state in ('queued', 'leased', 'running', 'cancelling')`;
/** How long one that its node has accepted may wait there for its start, for which there is no bound: a month is that of a timeout. */
const WAITING_MS_MAX = 30 * 86_400_000;
/** As in the partial index tasks_unanswered. */
const UNANSWERED_SQL = `state = 'lost' and reason = 'LEASE_LOST'`;
const open = sql.raw<boolean>(OPEN_SQL);

/** States as SQL literals: few, ours, and part of the statement's form. */
function stateList(states: readonly TaskState[]): string {
	for (const state of states) assert(/^[a-z_]+$/.test(state), `no task state: ${state}`);
	return states.map((state) => `'${state}'`).join(', ');
}

export function tasksTable(compiler: Compiler, claim: Tasks['claim']): Tasks {
	return { ...changes(compiler), ...lookups(compiler), ...lists(compiler), ...taskDocumentsTable(compiler), claim };
}

function inStates(states: readonly TaskState[] | undefined): Condition[] {
	return states === undefined ? [] : [{ sql: `state in (${stateList(states)})` }];
}

function changes(compiler: Compiler): Pick<Tasks, 'insert' | 'update' | 'change'> {
	const insert = compiler.insert(TASKS);
	return {
		*insert(row: TaskRow) {
			yield insert(row);
		},
		*update(id: string, patch: TaskPatch, ifStates?: readonly TaskState[]) {
			if (ifStates?.length === 0) return undefined;
			return yield* compiler.patch<TaskRow>(TASKS, ['id', id], patch, inStates(ifStates));
		},
		*change(id, patch, ifStates) {
			if (ifStates.length === 0) return false;
			return (yield compiler.patching<TaskRow>(TASKS, ['id', id], patch, inStates(ifStates))).changes > 0;
		},
	};
}

function lookups(
	compiler: Compiler,
): Pick<Tasks, 'get' | 'countOpen' | 'countInjections' | 'countByState' | 'listNodesWithQueued'> {
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('tasks').select(TASKS.columns).where('id', '=', slot('id'))),
	);
	const countOpen = compiler.prepare<{ nodeId: string }>((db, slot) =>
		db
			.selectFrom('tasks')
			.select((of) => of.fn.countAll<number>().as('count'))
			.where(open)
			.where('node_id', '=', slot('nodeId')),
	);
	const byState = compiler.prepare((db) =>
		db
			.selectFrom('tasks')
			.select((of) => ['state', of.fn.countAll<number>().as('count')])
			.where(open)
			.groupBy('state'),
	);
	const injections = compiler.statement(
		`select count(*) as count from tasks where node_id = ? and kind = 'inject_fault'
		and (ended_at_ms is null or started_at_ms is not null) and created_at_ms + timeout_ms > ?`,
	);
	// Jumps from node to node in the index: ten thousand tasks of one node cost as much as one.
	const queued = (more: string) =>
		`(select node_id from tasks where ${OPEN_SQL} and state = 'queued'${more} order by node_id limit 1)`;
	const waiting = compiler.text(
		`with recursive waiting (node_id) as (
			select ${queued('')}
			union all select ${queued(' and node_id > waiting.node_id')} from waiting where waiting.node_id is not null
		) select node_id from waiting where node_id is not null limit ?`,
	);
	const named =
		compiler.dialect === 'sqlite'
			? '(select value as node_id from json_each(?)) as named'
			: 'unnest(?::text[]) as named(node_id)';
	const waitingAmong = compiler.text(
		`select named.node_id as node_id from ${named} where exists (
			select 1 from tasks where ${OPEN_SQL} and state = 'queued' and tasks.node_id = named.node_id) limit ?`,
	);
	return {
		*get(id) {
			return TASKS.first(yield byId({ id }));
		},
		*listNodesWithQueued(limit, nodeIds) {
			const statement =
				nodeIds === undefined
					? { sql: waiting, parameters: [limit] }
					: { sql: waitingAmong, parameters: [compiler.bind(nodeIds), limit] };
			return (yield statement).rows.map((row) => String(row.node_id));
		},
		*countOpen(nodeId) {
			return Number((yield countOpen({ nodeId })).rows[0]?.count);
		},
		*countInjections(nodeId, nowMs) {
			return Number((yield injections(nodeId, nowMs)).rows[0]?.count);
		},
		*countByState() {
			const { rows } = yield byState({});
			return Object.fromEntries(rows.map((row) => [String(row.state), Number(row.count)]));
		},
	};
}

type Lists =
	| 'list'
	| 'listActive'
	| 'listUnanswered'
	| 'listQueued'
	| 'listQueueExpired'
	| 'listLeaseExpired'
	| 'listEndedBefore'
	| 'listOpenByAssignment';

interface ListValues {
	readonly afterId: string;
	readonly limit: number;
	readonly nodeId: string;
	readonly batchId: string;
	readonly visibility: string;
}

function lists(compiler: Compiler): Pick<Tasks, Lists> {
	const list = compiler.prepareShapes<ListValues, string>((db, slot, shape) => {
		const [below, node, batch, visible, states] = shape.split('|');
		let query = db.selectFrom('tasks').select(TASKS.columns).orderBy('id', 'desc').limit(slot('limit'));
		if (below !== '') query = query.where('id', '<', slot('afterId'));
		if (node !== '') query = query.where('node_id', '=', slot('nodeId'));
		if (batch !== '') query = query.where('batch_id', '=', slot('batchId')).where(sql<boolean>`batch_id <> ''`);
		if (visible !== 'all') {
			const project = ['tasks.organization', 'tasks.project'] as const;
			const seen = inVisible(compiler, project, visible as VisibilityShape, slot('visibility'));
			query = query.where((of) =>
				visible === 'projects+deleted+unowned' ? of.or([of('organization', 'is', null), seen]) : seen,
			);
		}
		return states === undefined || states === '' ? query : query.where(sql.raw<boolean>(`state in (${states})`));
	});
	/** Oldest first. */
	const some = (conditions: string) => {
		const text = compiler.text(`select ${TASKS.columnsSql} from tasks where ${conditions} limit ?`);
		return (...parameters: readonly (string | number)[]) => ({ sql: text, parameters });
	};
	const active = some(`${OPEN_SQL} and node_id = ? and state in ('leased', 'running', 'cancelling') order by id`);
	const unanswered = some(
		`${UNANSWERED_SQL} and node_id = ? and ended_at_ms + timeout_ms + ${WAITING_MS_MAX} > ? order by id`,
	);
	const queuedOf = some(`${OPEN_SQL} and state = 'queued' and node_id = ? order by id`);
	const queueExpired = some(`state = 'queued' and queue_deadline_ms < ? order by queue_deadline_ms, id`);
	const leaseExpired = some(
		`state = 'leased' and accepted_at_ms is null and lease_until_ms < ? order by lease_until_ms, id`,
	);
	const endedBefore = compiler.text(
		'select id from tasks where id > ? and id < ? and ended_at_ms < ? order by id limit ?',
	);
	const ofAssignment = some(`${OPEN_SQL} and assignment_id = ? order by id`);
	return {
		*list({ afterId, limit, nodeId, batchId, states, visibility }) {
			const shape = [
				afterId === '' ? '' : 'below',
				nodeId === null ? '' : 'node',
				batchId === null ? '' : 'batch',
				visibilityShape(visibility),
				stateList(states.toSorted()),
			].join('|');
			const values = {
				afterId,
				limit,
				nodeId: nodeId ?? '',
				batchId: batchId ?? '',
				visibility: visibilityText(visibility),
			};
			return TASKS.all(yield list(shape, values));
		},
		*listActive(nodeId, limit) {
			return TASKS.all(yield active(nodeId, limit));
		},
		*listUnanswered(nodeId, nowMs, limit) {
			return TASKS.all(yield unanswered(nodeId, nowMs, limit));
		},
		*listQueued(nodeId, limit) {
			return TASKS.all(yield queuedOf(nodeId, limit));
		},
		*listQueueExpired(nowMs, limit) {
			return TASKS.all(yield queueExpired(nowMs, limit));
		},
		*listLeaseExpired(nowMs, limit) {
			return TASKS.all(yield leaseExpired(nowMs, limit));
		},
		*listEndedBefore(endedBeforeMs, afterId, beforeId, limit) {
			const { rows } = yield { sql: endedBefore, parameters: [afterId, beforeId, endedBeforeMs, limit] };
			return rows.map((row) => String(row.id));
		},
		*listOpenByAssignment(assignmentId, limit) {
			return TASKS.all(yield ofAssignment(assignmentId, limit));
		},
	};
}
