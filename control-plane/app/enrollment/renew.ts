import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { verifyCsr } from '../../../pki/x509/csr.ts';
import {
	type RenewCertificateResponse,
	RenewCertificateResponseSchema,
} from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { JoinState } from '../certificates/certificate-authority.ts';
import { recordRefusal } from './burn.ts';
import { announceLock, lockClone } from './clone-lock.ts';
import type { IssuingDeps } from './deps.ts';
import { fillPendingSlot, type Issue, issueAgain, issueToNode } from './issue.ts';

/**
 * A new certificate for a new key, asked over the link with the current one. It waits in the pending slot until its
 * first use, so a lost answer costs nothing: the agent asks again with what it has. The join state must be the one that
 * came with the certificate in use; an older one is a copy of this node's disk, and locks the node.
 */
export interface RenewRequest {
	/** Both from `StreamGuard.authorizeStream` of this very call. */
	readonly nodeId: string;
	readonly serial: string;
	/** PKCS#10 DER. */
	readonly csr: Uint8Array;
	readonly joinState: string;
}

export async function renewCertificate(
	deps: IssuingDeps,
	ctx: RequestContext,
	request: RenewRequest,
): Promise<RenewCertificateResponse> {
	const csr = verifyCsr(request.csr);
	if (csr.kind === 'refused') {
		throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: csr.reason, message: csr.message });
	}
	const state = deps.authority.verifyJoinState(request.joinState);
	const seen = await deps.store.read((tx) => look(tx, request));
	const verdict = verdictOf(seen, state, request, csr.key.keyId);
	if (verdict.kind === 'clone') return await refuseClone(deps, ctx, request, verdict.node);
	if (verdict.kind === 'refused') {
		await recordRefusal(deps, ctx, `nodes/${request.nodeId}`, verdict.error.reason);
		throw verdict.error;
	}
	if (verdict.kind === 'again') {
		return answer(deps, await issueAgain(deps, verdict.pending, verdict.node.renewalSeq));
	}
	const { node, used } = verdict;
	const issue = await issueToNode(deps, {
		nodeId: node.id,
		generation: node.generation,
		renewalSeq: node.renewalSeq + 1,
		csrDer: request.csr,
	});
	const nowMs = deps.clock.now();
	const eventId = uuidv7(nowMs, deps.rng);
	await deps.store.unit((tx) => apply(deps, tx, ctx, { node, used, issue, eventId, nowMs }));
	deps.bus.publish({ topic: 'certificates.changed', key: node.id });
	return answer(deps, issue);
}

interface Seen {
	readonly node: NodeRow | undefined;
	readonly current: CertificateRow | undefined;
	readonly pending: CertificateRow | undefined;
}

function* look(tx: Tx, { nodeId }: RenewRequest): Plan<Seen> {
	const { current, pending } = yield* tx.certificates.slots(nodeId);
	return { node: yield* tx.nodes.get(nodeId), current, pending };
}

type Verdict =
	| { readonly kind: 'issue'; readonly node: NodeRow; readonly used: CertificateRow }
	| { readonly kind: 'again'; readonly node: NodeRow; readonly pending: CertificateRow }
	| { readonly kind: 'clone'; readonly node: NodeRow }
	| { readonly kind: 'refused'; readonly error: GpuaasError };

function verdictOf(
	{ node, current, pending }: Seen,
	state: JoinState,
	request: RenewRequest,
	newSpkiSha256: string,
): Verdict {
	if (node === undefined || state.nodeId !== node.id) {
		const message =
			'the join state belongs to another node than the certificate; enroll this host again with a new token';
		return refused('JOIN_STATE_INVALID', message);
	}
	if (node.locked) return refused('NODE_LOCKED', `node ${node.name} is locked (${node.lockReason}); unlock it first`);
	if (state.generation !== node.generation) {
		const message = `the join state is of generation ${state.generation} and node ${node.name} is at ${node.generation}; stop this image`;
		return refused('STALE_GENERATION', message);
	}
	// The first use of a pending certificate made it current before this was called.
	if (current?.serial !== request.serial) return { kind: 'clone', node };
	if (state.spkiSha256 !== current.spkiSha256) return { kind: 'clone', node };
	if (newSpkiSha256 === current.spkiSha256) {
		return refused('CSR_INVALID', 'the request is for the key that is in use; make a new key on the host');
	}
	if (pending?.spkiSha256 === newSpkiSha256) return { kind: 'again', node, pending };
	return { kind: 'issue', node, used: current };
}

function refused(reason: string, message: string): Verdict {
	const code = reason === 'CSR_INVALID' ? 'INVALID_ARGUMENT' : 'PERMISSION_DENIED';
	return { kind: 'refused', error: new GpuaasError({ code, reason, message }) };
}

interface Renewal {
	readonly node: NodeRow;
	readonly used: CertificateRow;
	readonly issue: Issue;
	readonly eventId: string;
	readonly nowMs: number;
}

function* apply(deps: IssuingDeps, tx: Tx, ctx: RequestContext, renewal: Renewal): Plan<void> {
	const { node, used, issue, eventId, nowMs } = renewal;
	const fresh = yield* tx.nodes.get(node.id);
	const { current } = yield* tx.certificates.slots(node.id);
	const isSame = fresh?.renewalSeq === node.renewalSeq && fresh.generation === node.generation && !fresh.locked;
	if (!isSame || current?.serial !== used.serial) {
		throw new GpuaasError({
			code: 'ABORTED',
			reason: 'ETAG_MISMATCH',
			message: `node ${node.name} changed while its certificate was renewed; ask again`,
		});
	}
	// A renewal in time shows that the node is looked after: recoveries count from here.
	yield* tx.nodes.update(node.id, { renewalSeq: issue.renewalSeq, recoveries: 0 });
	yield* fillPendingSlot(tx, issue);
	yield* deps.appendAudit(tx, ctx, {
		action: 'certificates.renew',
		target: `nodes/${node.id}`,
		result: 'ok',
		reason: '',
		custody: node.custody,
		detail: { certificate: issue.row.serial, issuer: issue.row.issuerKeyId, renewal_seq: issue.renewalSeq },
	});
	yield* tx.outbox.append({ id: eventId, topic: 'certificates.changed', key: node.id, atMs: nowMs });
}

async function refuseClone(
	deps: IssuingDeps,
	ctx: RequestContext,
	{ serial }: RenewRequest,
	node: NodeRow,
): Promise<never> {
	const nowMs = deps.clock.now();
	const eventId = uuidv7(nowMs, deps.rng);
	await deps.store.unit((tx) => lockClone(deps, tx, ctx, { node, serial, seenAt: 'renewal', eventId, nowMs }));
	announceLock(deps, ctx, node, serial);
	throw new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'JOIN_STATE_OUTDATED',
		message: `node ${node.name} has a newer certificate or join state than this host: two hosts hold one identity, and the node is now locked until an operator has looked`,
	});
}

function answer(deps: IssuingDeps, issue: Pick<Issue, 'chain' | 'joinState'>): RenewCertificateResponse {
	return create(RenewCertificateResponseSchema, {
		chain: [...issue.chain],
		bundle: deps.authority.bundle().bytes,
		joinState: issue.joinState,
		serverTime: timestampFromMs(deps.clock.now()),
	});
}
