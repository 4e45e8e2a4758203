import { fromBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { observationOf } from '../../../health/fact-kinds.ts';
import type { ClearingObservation, HealthObservation } from '../../../health/observation.ts';
import { NODE, type Subject, type SubjectKind } from '../../../health/verdict.ts';
import { isUuid } from '../../../kit/ids.ts';
import { TaskSpecSchema } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { type HealthFact, HealthFactSchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { HealthFactRow } from '../../store/port/health-facts.ts';
import type { HealthEvidenceRow } from '../../store/port/node-health.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';

/** What is stored of a node beside samples, in the order in which it came, as the engine hears it. */
export interface Recorded {
	/** Of the row: where the next reading goes on. */
	readonly factId: string;
	readonly evidenceId: string;
	readonly observations: readonly (HealthObservation | ClearingObservation)[];
	/** More is there. */
	readonly isCut: boolean;
	/** Of the node at the same moment: the boot that its session told, and who has it. */
	readonly node: Pick<NodeRow, 'bootId' | 'custody'>;
}

/** At once of one node: all that is kept of it, in all custodies. */
const RECORDS_MAX = 2048;
const ASSIGNMENTS_MAX = 200;
/** A fact of an injection is made by its end, give or take so much of clocks and queues; it may come much later. */
const INJECTION_SLACK_MS = 600_000;

export function* recordsAfter(tx: Tx, nodeId: string, factId: string, evidenceId: string): Plan<Recorded> {
	const { bootId = '', custody = 'platform' as const } = (yield* tx.nodes.get(nodeId)) ?? {};
	const { facts, evidence } = yield* storedRecords(tx, nodeId, factId, evidenceId);
	const heard = [
		...evidence.map(({ row, shownAtMs }) => clearingOf(row, shownAtMs)),
		...facts.map(({ row, fact, tenant, isInjected }) =>
			observationOf(fact, {
				atMs: row.receivedAtMs,
				custody: row.custody,
				...(tenant === undefined ? {} : { tenant }),
				isInjected,
			}),
		),
	];
	return {
		factId: facts.at(-1)?.row.id ?? factId,
		evidenceId: evidence.at(-1)?.row.id ?? evidenceId,
		observations: heard.sort((left, right) => left.atMs - right.atMs),
		isCut: facts.length === RECORDS_MAX || evidence.length === RECORDS_MAX,
		node: { bootId, custody },
	};
}

export interface StoredRecords {
	readonly facts: readonly {
		readonly row: HealthFactRow;
		readonly fact: HealthFact;
		/** Who held the thing then. */
		readonly tenant: string | undefined;
		readonly isInjected: boolean;
	}[];
	readonly evidence: readonly {
		readonly row: HealthEvidenceRow;
		/** When the task began that shows it. */
		readonly shownAtMs: number;
	}[];
}

/** Above these ids, each oldest first. */
export function* storedRecords(tx: Tx, nodeId: string, factId = '', evidenceId = ''): Plan<StoredRecords> {
	const rows = yield* tx.healthFacts.ofNodeAfter(nodeId, factId, RECORDS_MAX);
	const evidence: StoredRecords['evidence'][number][] = [];
	for (const row of yield* tx.nodeHealth.evidenceAfter(nodeId, evidenceId, RECORDS_MAX)) {
		const task = row.taskId === '' ? undefined : yield* tx.tasks.get(row.taskId);
		evidence.push({ row, shownAtMs: task?.startedAtMs ?? row.atMs });
	}
	const assignments = yield* assignmentsDuring(tx, nodeId, rows);
	const orders = new Map<string, Order | undefined>();
	const facts: StoredRecords['facts'][number][] = [];
	for (const row of rows) {
		const fact = fromBinary(HealthFactSchema, row.fact);
		const isInjected = yield* wasInjected(tx, row, fact, orders);
		facts.push({ row, fact, tenant: tenantOf(row, assignments), isInjected });
	}
	return { facts, evidence };
}

/** An injection that a task of ours asked for. */
interface Order {
	readonly createdMs: number;
	readonly endsAtMs: number;
}

/** Only what a task of ours asked for ends by time: an agent alone can't make a real fault pass for a drill. */
function* wasInjected(
	tx: Tx,
	row: HealthFactRow,
	fact: HealthFact,
	orders: Map<string, Order | undefined>,
): Plan<boolean> {
	const { injection, injectionEndsAt, observedAt, simulated } = fact;
	if (injection === '' || injectionEndsAt === undefined || !simulated || !isUuid(injection)) return false;
	if (!orders.has(injection)) orders.set(injection, orderOf(yield* tx.tasks.get(injection), row.nodeId));
	const order = orders.get(injection);
	if (order === undefined || order.endsAtMs !== timestampMs(injectionEndsAt)) return false;
	// What a journal held back is a drill still, and over; what is seen long after the end is none, whatever it is called.
	if (row.receivedAtMs <= order.endsAtMs + INJECTION_SLACK_MS) return true;
	const seenMs = observedAt === undefined ? row.receivedAtMs : timestampMs(observedAt);
	return seenMs >= order.createdMs - INJECTION_SLACK_MS && seenMs <= order.endsAtMs + INJECTION_SLACK_MS;
}

/** Undefined: no task of this node ordered one. */
function orderOf(task: TaskRow | undefined, nodeId: string): Order | undefined {
	if (task?.kind !== 'inject_fault' || task.nodeId !== nodeId) return undefined;
	const { kind } = fromBinary(TaskSpecSchema, task.spec);
	const endsAt = kind.case === 'injectFault' ? kind.value.endsAt : undefined;
	return endsAt && { createdMs: task.createdAtMs, endsAtMs: timestampMs(endsAt) };
}

function* assignmentsDuring(tx: Tx, nodeId: string, facts: readonly HealthFactRow[]): Plan<readonly AssignmentRow[]> {
	const [first] = facts;
	const last = facts.at(-1);
	if (first === undefined || last === undefined) return [];
	return yield* tx.assignments.ofNodeDuring(nodeId, first.receivedAtMs, last.receivedAtMs + 1, ASSIGNMENTS_MAX);
}

/** Who held the GPU or slice when the fact came. */
function tenantOf(
	{ receivedAtMs, subjectId }: HealthFactRow,
	assignments: readonly AssignmentRow[],
): string | undefined {
	const open = assignments.filter(
		({ fromMs, untilMs }) => fromMs <= receivedAtMs && (untilMs === null || receivedAtMs < untilMs),
	);
	const found = open.find(({ sliceId }) => sliceId === subjectId) ?? open.find(({ sliceId }) => sliceId === '');
	return found && `${found.organization}/${found.project}`;
}

function clearingOf(
	{ clearing, kind, subjectId, subjectIndex, atMs }: HealthEvidenceRow,
	shownAtMs: number,
): ClearingObservation {
	const subject: Subject = kind === 'node' ? NODE : { kind: kind as SubjectKind, id: subjectId, index: subjectIndex };
	return {
		kind: 'clearing',
		atMs,
		custody: 'platform',
		simulated: false,
		bootId: '',
		subject,
		clearing: clearing as ClearingObservation['clearing'],
		shownAtMs,
	};
}
