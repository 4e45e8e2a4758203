/**
 * Rotation of a CA as a pure state machine: `standby -> prepared -> activated -> draining -> tainted -> revoked`. Each
 * step waits until every node that isn't quarantined has acknowledged what the step would otherwise cut it off from, or
 * until a waiver names exactly those that haven't. One step back at a time is possible until `tainted`.
 *
 *   standby    the next CA exists in the key store; no bundle names it
 *   prepared   the bundle names both; nothing is issued by the next
 *   activated  new certificates come from the next
 *   draining   nodes are told to renew
 *   tainted    no leaf of the old CA is accepted on a new stream; it stays in the bundle. No way back
 *   revoked    the old CA is out of the bundle
 *
 * Who calls it: app/certificates/step.ts, inside its unit of work; `facts` come from the store. It does no I/O.
 */
export type RotationPhase = 'standby' | 'prepared' | 'activated' | 'draining' | 'tainted' | 'revoked';

export interface Waiver {
	readonly step: RotationStep;
	readonly nodeIds: readonly string[];
	readonly reason: string;
}

export interface Rotation {
	readonly phase: RotationPhase;
	readonly oldKeyId: string;
	readonly nextKeyId: string;
	/** Sequence of the bundle that shows this phase: what nodes must have acknowledged before the next step. */
	readonly bundleSeq: number;
	readonly waivers: readonly Waiver[];
}

export type RotationStep = 'prepare' | 'activate' | 'drain' | 'taint' | 'revoke' | 'rollback';

export interface RotationEvent {
	readonly step: RotationStep;
	/** Sequence that the bundle with the new phase will have: above every earlier one. */
	readonly bundleSeq: number;
	/** Goes on without these nodes; audited by the caller. */
	readonly waiver?: { readonly nodeIds: readonly string[]; readonly reason: string };
	/** The old CA is at its end, which cuts off whoever lags anyway: nobody is waited for. Audited by the caller. */
	readonly isEnding?: boolean;
}

export interface NodeTrustFact {
	readonly nodeId: string;
	/** A quarantined node is fenced off and holds nothing up. */
	readonly quarantined: boolean;
	/** Newest bundle that the node said it uses. */
	readonly bundleSeqAcked: number;
	/** Issuer of the leaf that its last session presented; undefined before its first session. */
	readonly leafIssuerKeyId: string | undefined;
}

export type RotationResult =
	/** `passed`: the laggards that it went on without, sorted. */
	| { readonly kind: 'ok'; readonly rotation: Rotation; readonly passed: readonly string[] }
	/** Sorted; the step may go on when a waiver names all of them, and none but known nodes. */
	| { readonly kind: 'blocked'; readonly laggards: readonly string[]; readonly message: string }
	| { readonly kind: 'refused'; readonly reason: 'ROTATION_STEP_INVALID'; readonly message: string };

export const FORWARD: Readonly<
	Partial<Record<RotationPhase, { readonly step: RotationStep; readonly to: RotationPhase }>>
> = {
	standby: { step: 'prepare', to: 'prepared' },
	prepared: { step: 'activate', to: 'activated' },
	activated: { step: 'drain', to: 'draining' },
	draining: { step: 'taint', to: 'tainted' },
	tainted: { step: 'revoke', to: 'revoked' },
};

const BACK: Readonly<Partial<Record<RotationPhase, RotationPhase>>> = {
	prepared: 'standby',
	activated: 'prepared',
	draining: 'activated',
};

export function startRotation(oldKeyId: string, nextKeyId: string, bundleSeq: number): Rotation {
	return { phase: 'standby', oldKeyId, nextKeyId, bundleSeq, waivers: [] };
}

export function advance(rotation: Rotation, event: RotationEvent, facts: Iterable<NodeTrustFact>): RotationResult {
	const to = targetOf(rotation.phase, event.step);
	if (to === undefined) {
		const allowed = [FORWARD[rotation.phase]?.step, BACK[rotation.phase] && 'rollback'].filter(Boolean).join(' or ');
		return refused(`${event.step} is not possible in phase ${rotation.phase}; possible: ${allowed || 'nothing'}`);
	}
	if (event.bundleSeq <= rotation.bundleSeq) {
		return refused(`the bundle of the new phase needs a sequence above ${rotation.bundleSeq}, not ${event.bundleSeq}`);
	}
	if (event.waiver && event.waiver.reason.trim() === '') return refused('a waiver needs a reason');
	const laggards = laggardsOf(rotation, event.step, facts);
	const waived = new Set(event.waiver?.nodeIds);
	const missing = laggards.filter((nodeId) => !waived.has(nodeId));
	if (missing.length > 0 && event.isEnding !== true) {
		const message = `${missing.length} nodes have not acknowledged what ${event.step} needs; wait, quarantine or waive them`;
		return { kind: 'blocked', laggards, message };
	}
	// A waiver that names others than the laggards was written for another situation.
	const strangers = [...waived].filter((nodeId) => !laggards.includes(nodeId));
	if (strangers.length > 0) return refused(`the waiver names nodes that hold nothing up: ${strangers.join(', ')}`);
	const waivers = event.waiver
		? [...rotation.waivers, { step: event.step, nodeIds: laggards, reason: event.waiver.reason }]
		: rotation.waivers;
	return { kind: 'ok', rotation: { ...rotation, phase: to, bundleSeq: event.bundleSeq, waivers }, passed: laggards };
}

function refused(message: string): RotationResult {
	return { kind: 'refused', reason: 'ROTATION_STEP_INVALID', message };
}

function targetOf(phase: RotationPhase, step: RotationStep): RotationPhase | undefined {
	if (step === 'rollback') return BACK[phase];
	const forward = FORWARD[phase];
	return forward?.step === step ? forward.to : undefined;
}

/** Nodes that the step would cut off, sorted. Pure, so that `ca status` shows it before anybody tries the step. */
export function laggardsOf(rotation: Rotation, step: RotationStep, facts: Iterable<NodeTrustFact>): string[] {
	const laggards: string[] = [];
	for (const fact of facts) {
		if (!fact.quarantined && lags(rotation, step, fact)) laggards.push(fact.nodeId);
	}
	return laggards.sort();
}

function lags({ phase, bundleSeq, oldKeyId, nextKeyId }: Rotation, step: RotationStep, fact: NodeTrustFact): boolean {
	const behind = fact.bundleSeqAcked < bundleSeq;
	switch (step) {
		case 'prepare':
			// Publishing a second CA cuts nobody off.
			return false;
		case 'activate':
		case 'drain':
			return behind;
		case 'taint':
		case 'revoke':
			return behind || fact.leafIssuerKeyId !== nextKeyId;
		case 'rollback':
			// To standby the next CA leaves the bundle, so nobody may still hold a leaf of it; other steps back keep both.
			return phase === 'prepared' && (behind || (fact.leafIssuerKeyId ?? oldKeyId) !== oldKeyId);
	}
}

/** The CA that signs leaves in this phase. */
export function issuingKeyId({ phase, oldKeyId, nextKeyId }: Rotation): string {
	return phase === 'standby' || phase === 'prepared' ? oldKeyId : nextKeyId;
}

export type AuthorityState = 'active' | 'next' | 'old' | 'tainted';

/** What the bundle says about each of the two CAs; a CA that isn't in the map isn't in the bundle. */
export function authorityStates({ phase, oldKeyId, nextKeyId }: Rotation): ReadonlyMap<string, AuthorityState> {
	switch (phase) {
		case 'standby':
			return new Map([[oldKeyId, 'active']]);
		case 'prepared':
			return new Map<string, AuthorityState>([
				[oldKeyId, 'active'],
				[nextKeyId, 'next'],
			]);
		case 'activated':
		case 'draining':
			return new Map<string, AuthorityState>([
				[nextKeyId, 'active'],
				[oldKeyId, 'old'],
			]);
		case 'tainted':
			return new Map<string, AuthorityState>([
				[nextKeyId, 'active'],
				[oldKeyId, 'tainted'],
			]);
		case 'revoked':
			return new Map([[nextKeyId, 'active']]);
	}
}
