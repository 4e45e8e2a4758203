import { uuidv7 } from '../../../kit/ids.ts';
import { type RequestContext, systemContext } from '../../context.ts';
import type { HealthFleet, NodeHealthRow } from '../../store/port/node-health.ts';
import type { SessionRow } from '../../store/port/sessions.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import type { Judgement } from './node-judge.ts';
import {
	type Counted,
	isDrill,
	type Quarantine,
	type QuarantineLimits,
	type QuarantineStep,
	type Shown,
	stepQuarantine,
} from './quarantine.ts';

/** Writes what was judged of a node, with what its quarantine comes to, in one unit. */
export type CommitDeps = Pick<AppDeps, 'store' | 'bus' | 'clock' | 'rng' | 'log' | 'replicaId'> & {
	readonly appendAudit: AppendAudit;
	readonly quarantine: QuarantineLimits;
};

export type Committed =
	| { readonly kind: 'written'; readonly row: NodeHealthRow; readonly step: QuarantineStep }
	/** Somebody else wrote since it was read. */
	| { readonly kind: 'stale' }
	/** Another replica has the node's session: it judges. */
	| { readonly kind: 'elsewhere' }
	| { readonly kind: 'gone' };

const CHANGES_MAX = 256;
const EVIDENCE_LOOKED_AT = 512;
export const HEALTH_TOPIC = 'nodes.health';

export interface Known {
	/** This replica has the session of the node. */
	readonly isOurs: boolean;
	/** Quarantine was, a moment ago: then nobody counts again for each node. */
	readonly isFull: boolean;
}

export async function commitJudgement(deps: CommitDeps, judgement: Judgement, known: Known): Promise<Committed> {
	const { store, bus, clock, rng, log, replicaId, appendAudit, quarantine: limits } = deps;
	const nowMs = clock.now();
	const ids = judgement.changes.map(() => uuidv7(nowMs, rng)).sort();
	const eventId = uuidv7(nowMs, rng);
	const ctx = systemContext('reconciler/node-health', clock, log, uuidv7(nowMs, rng));
	const { nodeId } = judgement.row;
	const isKept = known.isFull && judgement.isReal && mayEnter(judgement);
	const committed = await store.unit(
		function* (tx): Plan<Committed> {
			const node = yield* tx.nodes.getFence(nodeId);
			if (node === undefined || node.retiredAtMs !== null) return { kind: 'gone' };
			if (!known.isOurs && (yield* isElsewhere(tx, nodeId, replicaId))) return { kind: 'elsewhere' };
			const step = isKept ? BREAKER : yield* stepOf(tx, judgement, nowMs, limits);
			const row = { ...judgement.row, ...('quarantine' in step ? step.quarantine : {}) };
			if (!(yield* tx.nodeHealth.put(row, judgement.ifVersion))) return { kind: 'stale' };
			for (const [index, change] of judgement.changes.entries())
				yield* tx.nodeHealth.insertChange({ ...change, id: ids[index] ?? '' }, CHANGES_MAX);
			yield* auditStep(tx, ctx, appendAudit, step, row);
			yield* tx.outbox.append({ id: eventId, topic: HEALTH_TOPIC, key: nodeId, atMs: nowMs });
			return { kind: 'written', row, step };
		},
		// How many are in quarantine is a condition over several rows.
		mayEnter(judgement) && !isKept ? { isolation: 'serializable' } : {},
	);
	if (committed.kind === 'written') bus.publish({ topic: HEALTH_TOPIC, key: nodeId });
	return committed;
}

const BREAKER: QuarantineStep = { kind: 'breaker', of: 'fleet' };

function mayEnter({ row }: Judgement): boolean {
	return row.state === 'UNHEALTHY' && row.gpus > 0 && (row.quarantinedAtMs === null || isDrill(row));
}

export function* isElsewhere(tx: Tx, nodeId: string, replicaId: string): Plan<boolean> {
	const session = yield* tx.sessions.get(nodeId);
	return session !== undefined && isHeldElsewhere(session, replicaId);
}

export function isHeldElsewhere(session: SessionRow, replicaId: string): boolean {
	if (session.replicaId === replicaId) return false;
	return session.disconnectedAtMs === null && session.lostAtMs === null;
}

function* stepOf(tx: Tx, judgement: Judgement, nowMs: number, limits: QuarantineLimits): Plan<QuarantineStep> {
	const { row } = judgement;
	if (row.quarantinedAtMs === null && !mayEnter(judgement)) return { kind: 'stays' };
	const counted = mayEnter(judgement) ? yield* count(tx, row.nodeId, limits) : { fleet: NOBODY, domain: undefined };
	const isIn = row.quarantinedAtMs !== null;
	const evidence = isIn ? yield* tx.nodeHealth.evidenceAfter(row.nodeId, '', EVIDENCE_LOOKED_AT) : [];
	const shown: Shown = { evidence, subjects: new Set(judgement.subjects) };
	return stepQuarantine(row, judgement, counted, shown, nowMs, limits);
}

const NOBODY: HealthFleet = { gpuNodes: 0, quarantined: 0 };

function* count(tx: Tx, nodeId: string, { domainLabel }: QuarantineLimits): Plan<Counted> {
	const fleet = withItself(yield* tx.nodeHealth.fleet());
	const value = domainLabel === '' ? undefined : (yield* tx.nodes.get(nodeId))?.labels[domainLabel];
	if (value === undefined) return { fleet, domain: undefined };
	return { fleet, domain: withItself(yield* tx.nodeHealth.fleet({ key: domainLabel, value })) };
}

/** The node itself may not be counted yet. */
function withItself(counted: HealthFleet): HealthFleet {
	return { ...counted, gpuNodes: Math.max(1, counted.gpuNodes) };
}

function* auditStep(
	tx: Tx,
	ctx: RequestContext,
	appendAudit: AppendAudit,
	step: QuarantineStep,
	row: NodeHealthRow,
): Plan<void> {
	if (step.kind !== 'enters' && step.kind !== 'returns') return;
	const quarantine: Quarantine = step.quarantine;
	const isIn = step.kind === 'enters';
	yield* appendAudit(tx, ctx, {
		action: isIn ? 'health.quarantine' : 'health.return',
		target: `nodes/${row.nodeId}`,
		result: 'ok',
		reason: '',
		detail: {
			why: isIn ? quarantine.quarantineReason : step.by,
			policy: row.policyVersion,
			simulated: row.simulated,
			attempts: quarantine.quarantines.length,
		},
	});
}
