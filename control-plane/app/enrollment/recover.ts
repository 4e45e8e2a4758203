import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { verifyTranscript } from '../../../pki/keys/enroll-transcript.ts';
import { parseCertificate } from '../../../pki/x509/parse.ts';
import type { JoinStateProof } from '../../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { JoinState } from '../certificates/certificate-authority.ts';
import { recordRefusal } from './burn.ts';
import { channelMismatch, type RecoveryClaim } from './challenges.ts';
import { announceLock, lockClone } from './clone-lock.ts';
import type { EnrollmentDeps } from './deps.ts';
import type { Asked, Proved } from './exchange.ts';

/**
 * How a node that was off past its expiry comes back without anybody touching it: its join state says which certificate
 * it had, and the key of that certificate signs the channel. At most `limits.recoveriesMax` times until a renewal in
 * time, because a stolen disk could do the same; audited each time.
 */
export async function judgeRecovery(
	deps: EnrollmentDeps,
	ctx: RequestContext,
	proof: JoinStateProof,
	asked: Asked,
): Promise<Proved> {
	const state = deps.authority.verifyJoinState(proof.joinState);
	const { nodeId, generation, spkiSha256 } = state;
	const seen = await deps.store.read((tx) => look(tx, state));
	const { certificate } = seen;
	const parsed = certificate === undefined ? undefined : parseCertificate(certificate.der);
	if (certificate === undefined || parsed?.kind !== 'ok') {
		const message =
			'this control plane knows no such certificate of that node; enroll this host again with a new token';
		throw new GpuaasError({ code: 'UNAUTHENTICATED', reason: 'JOIN_STATE_INVALID', message });
	}
	const proofKey = parsed.certificate.spki;
	if (!verifyTranscript(proofKey, asked.transcript(proof.joinState), proof.signature)) throw channelMismatch();
	const claim: RecoveryClaim = { kind: 'recovery', nodeId, generation, spkiSha256 };
	const refusal = recoveryRefusal(deps, claim, asked.spkiSha256, seen);
	if (refusal === undefined) return { claim, proofKey };
	if (refusal.reason === 'JOIN_STATE_OUTDATED' && seen.node !== undefined) {
		await lockAsClone(deps, ctx, seen.node, certificate.serial);
	} else await recordRefusal(deps, ctx, `nodes/${nodeId}`, refusal.reason);
	throw refusal;
}

export interface RecoverySeen {
	readonly node: NodeRow | undefined;
	/** The one that the join state was issued with, in whatever state. */
	readonly certificate: CertificateRow | undefined;
	readonly current: CertificateRow | undefined;
	readonly pending: CertificateRow | undefined;
}

/** Superseded and revoked certificates are looked for among the node's rows, which expire from nothing. */
export function* look(tx: Tx, { nodeId, spkiSha256 }: Pick<JoinState, 'nodeId' | 'spkiSha256'>): Plan<RecoverySeen> {
	const node = yield* tx.nodes.get(nodeId);
	const { current, pending } = yield* tx.certificates.slots(nodeId);
	const slot = [current, pending].find((row) => row?.spkiSha256 === spkiSha256);
	if (slot !== undefined) return { node, current, pending, certificate: slot };
	const rows = yield* tx.certificates.list({ subjectId: nodeId, afterId: '', limit: ROWS_MAX });
	return { node, current, pending, certificate: rows.find((row) => row.spkiSha256 === spkiSha256) };
}

/** A node has two rows a day; older rows than these can't recover, which they could not anyway. */
const ROWS_MAX = 10_000;

export function recoveryRefusal(
	deps: EnrollmentDeps,
	claim: RecoveryClaim,
	newSpkiSha256: string,
	{ node, certificate, pending }: RecoverySeen,
): GpuaasError | undefined {
	const nowMs = deps.clock.now();
	const again = 'enroll this host again with a new token';
	if (node === undefined || certificate === undefined) {
		return denied('JOIN_STATE_INVALID', `this control plane has no such node; ${again}`);
	}
	if (node.state === 'retired') return denied('NODE_RETIRED', `node ${node.name} was removed; ${again}`);
	if (claim.generation !== node.generation) {
		const message = `this image is generation ${claim.generation} of node ${node.name}, which is at ${node.generation}; stop it`;
		return denied('STALE_GENERATION', message);
	}
	if (certificate.state === 'revoked') {
		return denied('CERTIFICATE_REVOKED', `the certificate of node ${node.name} was revoked; ${again}`);
	}
	if (node.locked) {
		const message = `node ${node.name} is locked (${node.lockReason}); an operator must look at it and unlock it`;
		return denied('NODE_LOCKED', message);
	}
	if (certificate.state === 'superseded') {
		const message = `node ${node.name} has a newer certificate than this join state: this host is a copy or was restored; the node is now locked`;
		return denied('JOIN_STATE_OUTDATED', message);
	}
	const isReplay = pending?.spkiSha256 === newSpkiSha256;
	if (isReplay) return undefined;
	if (nowMs < certificate.notAfterMs && deps.authority.acceptedNodeIssuers().has(certificate.issuerKeyId)) {
		return new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'CLOCK_SKEW',
			message: `the certificate of node ${node.name} is valid for ${Math.ceil((certificate.notAfterMs - nowMs) / 1000)} s more by the control plane's clock: set this host's clock, and renew instead`,
			metadata: { server_time_ms: String(nowMs) },
		});
	}
	if (node.recoveries < deps.limits.recoveriesMax) return undefined;
	const message = `node ${node.name} came back from expiry ${node.recoveries} times without a renewal in time; ${again}`;
	return denied('RECOVERY_LIMIT', message);
}

function denied(reason: string, message: string): GpuaasError {
	return new GpuaasError({ code: 'PERMISSION_DENIED', reason, message });
}

async function lockAsClone(deps: EnrollmentDeps, ctx: RequestContext, node: NodeRow, serial: string): Promise<void> {
	const nowMs = deps.clock.now();
	const eventId = uuidv7(nowMs, deps.rng);
	await deps.store.unit((tx) => lockClone(deps, tx, ctx, { node, serial, seenAt: 'recovery', eventId, nowMs }));
	announceLock(deps, ctx, node, serial);
}
