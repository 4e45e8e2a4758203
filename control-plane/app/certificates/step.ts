import { GpuaasError } from '../../../kit/error.ts';
import { advance, type Rotation, type RotationStep, startRotation } from '../../../pki/trust/rotation.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AuditEvent } from '../audit/event.ts';
import { type AuthorityDocument, type IssuingSet, isIdle, issuingSet } from './document.ts';
import { custodyNote, namesOf, trustFacts } from './laggards.ts';

/**
 * One step of a rotation inside its unit, whoever takes it: a person (rotate.ts) or the control plane itself
 * (self-rotate.ts). The rules are pki/trust/rotation.ts; this gives it what nodes have acknowledged. The caller stores
 * the document and announces it.
 */
export interface AskedStep {
	readonly step: RotationStep;
	readonly nowMs: number;
	/** What `prepare` goes to; its keys are on disk. */
	readonly nextSet: IssuingSet | undefined;
	/** Names as `ca status` shows them, or ids. */
	readonly waiver?: { readonly nodes: readonly string[]; readonly reason: string };
	/** The old CA is at its end: nobody is waited for. */
	readonly isEnding?: boolean;
}

export interface TakenStep {
	readonly document: AuthorityDocument;
	/** Names of the nodes that it went on without. */
	readonly passed: readonly string[];
}

/** Throws ROTATION_BLOCKED with the laggards, or ROTATION_STEP_INVALID. */
export function* takeStep(tx: Tx, before: AuthorityDocument, asked: AskedStep): Plan<TakenStep> {
	const { step, nowMs, nextSet, isEnding = false } = asked;
	const rotation = started(before, step, nextSet);
	const { facts, nodes } = yield* trustFacts(tx, rotation, step);
	const waiver = waiverOf(asked, nodes);
	const bundleSeq = before.bundleSeq + 1;
	const event = { step, bundleSeq, isEnding, ...(waiver === undefined ? {} : { waiver }) };
	const result = advance(rotation, event, facts);
	if (result.kind === 'blocked') {
		throw blocked(namesOf(result.laggards, nodes), `${result.message}${custodyNote(result.laggards, nodes)}`);
	}
	if (result.kind === 'refused') throw invalidStep(result.message);
	const sets = nextSet === undefined ? before.sets : [...before.sets, nextSet];
	const isOver = result.rotation.phase === 'revoked';
	const document: AuthorityDocument = {
		...before,
		bundleSeq,
		rotation: result.rotation,
		progress: { sinceMs: nowMs, isHeld: step === 'rollback' },
		sets: isOver ? sets.filter(({ node }) => node.keyId === result.rotation.nextKeyId) : sets,
	};
	return { document, passed: namesOf(result.passed, nodes) };
}

export function stepRecord(
	step: RotationStep,
	{ document, passed }: TakenStep,
	more: Pick<AuditEvent, 'detail' | 'personal'>,
): AuditEvent {
	return {
		action: 'ca.rotate',
		target: `authorities/${document.trustDomain}`,
		result: 'ok',
		reason: '',
		...more,
		detail: {
			step,
			phase: document.rotation?.phase ?? '',
			bundle_seq: document.bundleSeq,
			// At the end of a CA it may be the fleet.
			waived: passed.slice(0, NAMES_RECORDED_MAX).join(' '),
			waived_count: passed.length,
			...more.detail,
		},
	};
}

function started(document: AuthorityDocument, step: RotationStep, nextSet: IssuingSet | undefined): Rotation {
	const { rotation, bundleSeq } = document;
	if (rotation !== null && !isIdle(document)) return rotation;
	if (nextSet === undefined) {
		throw invalidStep(`${step} is not possible while no rotation is under way; possible: prepare`);
	}
	return startRotation(issuingSet(document).node.keyId, nextSet.node.keyId, bundleSeq);
}

/** An unknown name stays as it is, and the rules refuse it. */
function waiverOf({ waiver }: AskedStep, nodes: ReadonlyMap<string, NodeRow>) {
	if (waiver === undefined || waiver.nodes.length === 0) return undefined;
	const idOf = new Map([...nodes.values()].map((node) => [node.name, node.id]));
	return { nodeIds: [...new Set(waiver.nodes.map((name) => idOf.get(name) ?? name))], reason: waiver.reason };
}

const NAMES_SHOWN_MAX = 20;
/** A record has at most 64 KiB. */
const NAMES_RECORDED_MAX = 800;

function blocked(laggards: readonly string[], message: string): GpuaasError {
	const more = laggards.length > NAMES_SHOWN_MAX ? `, and ${laggards.length - NAMES_SHOWN_MAX} more` : '';
	const names = laggards.slice(0, NAMES_SHOWN_MAX).join(', ');
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ROTATION_BLOCKED',
		message: `${message}: ${names}${more}`,
		metadata: { laggards: laggards.slice(0, NAMES_SHOWN_MAX).join(','), laggard_count: String(laggards.length) },
	});
}

function invalidStep(message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason: 'ROTATION_STEP_INVALID', message });
}
