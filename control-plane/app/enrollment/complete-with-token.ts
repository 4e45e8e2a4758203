import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { HardwareFacts } from '../../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import { CloseCode } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { JoinTokenRow } from '../../store/port/join-tokens.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { PreparedEnding } from '../tasks/end-tasks.ts';
import { burnToken, recordRefusal } from './burn.ts';
import type { Challenge, TokenClaim } from './challenges.ts';
import type { EnrollmentDeps } from './deps.ts';
import { type EndedAssignments, endAssignments, prepareEnd } from './end-assignments.ts';
import type { Completed } from './exchange.ts';
import { type Issue, issueAgain, issueToNode, revokeNode } from './issue.ts';
import { type EnrollTarget, judgeToken, type TokenVerdict, targetOf } from './judge-token.ts';

/**
 * Consumes a join token: in one unit the token is used, the node is inserted (or taken over: generation + 1, its old
 * certificates denied, its assignments ended), its certificate waits in the pending slot, and the audit record and the outbox rows are there.
 * The certificate is made before, and thrown away when the unit finds that something changed meanwhile.
 */
interface Seen {
	readonly token: JoinTokenRow | undefined;
	readonly verdict: TokenVerdict;
	readonly target: EnrollTarget;
}

/** What the unit wrote. */
interface Done {
	readonly node: NodeRow;
	/** Of a node that was taken over. */
	readonly assignments?: EndedAssignments;
}

export async function completeWithToken(
	deps: EnrollmentDeps,
	ctx: RequestContext,
	challenge: Challenge,
	claim: TokenClaim,
): Promise<Completed> {
	const nowMs = deps.clock.now();
	const seen = await deps.store.read((tx) => look(tx, challenge, claim, nowMs));
	await refuseIfRefused(deps, ctx, seen);
	if (seen.verdict.kind === 'ok' && seen.verdict.replay) return await answerAgain(deps, challenge, seen);

	const node = seen.target.kind === 'existing' ? seen.target.node : undefined;
	const nodeId = node?.id ?? uuidv7(nowMs, deps.rng);
	const generation = (node?.generation ?? 0) + 1;
	const renewalSeq = (node?.renewalSeq ?? 0) + 1;
	const issue = await issueToNode(deps, { nodeId, generation, renewalSeq, csrDer: challenge.csrDer });
	const eventIds = [uuidv7(nowMs, deps.rng), uuidv7(nowMs, deps.rng)] as const;
	const endings = node === undefined ? [] : await prepareEnd(deps, node.id);
	const done = await deps.store.unit(function* (tx): Plan<Seen | Done> {
		const again = yield* look(tx, challenge, claim, nowMs);
		if (isRefused(again) || again.token === undefined) return again;
		if (!isSameTarget(seen.target, again.target)) throw changedMeanwhile();
		const consumed = yield* tx.joinTokens.update(
			claim.tokenId,
			{ state: 'used', nodeId, usedBySpkiSha256: challenge.spkiSha256 },
			'unused',
		);
		if (consumed === undefined) throw changedMeanwhile();
		const input = { deps, ctx, challenge, token: again.token, issue, nowMs, eventIds, endings };
		if (again.target.kind === 'existing') return yield* takeOver(tx, input, again.target.node);
		return { node: yield* insert(tx, input) };
	});
	if ('verdict' in done) {
		await refuseIfRefused(deps, ctx, done);
		throw changedMeanwhile();
	}
	announce(deps, ctx, done, node !== undefined);
	return { node: done.node, chain: issue.chain, joinState: issue.joinState };
}

function* look(tx: Tx, challenge: Challenge, claim: TokenClaim, nowMs: number): Plan<Seen> {
	const { serial } = challenge.facts;
	const token = yield* tx.joinTokens.get(claim.tokenId);
	if (token === undefined) {
		const message = 'the join token was deleted; create a new one';
		const verdict: TokenVerdict = { kind: 'refused', reason: 'TOKEN_REVOKED', message, burns: false };
		return { token, verdict, target: { kind: 'new' } };
	}
	const byName = token.nodeName === '' ? undefined : yield* tx.nodes.getByName(token.nodeName);
	const bySerial = serial === '' ? undefined : yield* tx.nodes.getBySerial(serial);
	const verdict = judgeToken(token, { spkiSha256: challenge.spkiSha256, serial, nowMs });
	return { token, verdict, target: targetOf(token, serial, { byName, bySerial }) };
}

function isRefused({ verdict, target }: Seen): boolean {
	if (verdict.kind === 'refused') return true;
	// The name of a token that was used is taken by the node that it made.
	return !verdict.replay && target.kind === 'refused';
}

function isSameTarget(one: EnrollTarget, other: EnrollTarget): boolean {
	if (one.kind === 'existing' && other.kind === 'existing') {
		return one.node.id === other.node.id && one.node.version === other.node.version;
	}
	return one.kind === other.kind;
}

async function refuseIfRefused(deps: EnrollmentDeps, ctx: RequestContext, seen: Seen): Promise<void> {
	const { verdict, target, token } = seen;
	if (!isRefused(seen)) return;
	if (verdict.kind === 'refused') {
		if (verdict.burns && token !== undefined) await burnToken(deps, ctx, token, verdict.reason);
		else await recordRefusal(deps, ctx, `tokens/${token?.id ?? ''}`, verdict.reason);
		throw new GpuaasError({ code: 'PERMISSION_DENIED', reason: verdict.reason, message: verdict.message });
	}
	if (target.kind !== 'refused') return;
	await recordRefusal(deps, ctx, `tokens/${token?.id ?? ''}`, target.reason);
	const code = target.reason === 'NODE_NAME_TAKEN' ? 'ALREADY_EXISTS' : 'FAILED_PRECONDITION';
	throw new GpuaasError({ code, reason: target.reason, message: target.message });
}

/** The answer was lost: the same certificate, as long as it is still in a slot. */
async function answerAgain(deps: EnrollmentDeps, { spkiSha256 }: Challenge, { token }: Seen): Promise<Completed> {
	const nodeId = token?.nodeId ?? '';
	const { node, slots } = await deps.store.read(function* (tx) {
		return { node: yield* tx.nodes.get(nodeId), slots: yield* tx.certificates.slots(nodeId) };
	});
	const row = [slots.pending, slots.current].find((slot) => slot?.spkiSha256 === spkiSha256);
	if (node === undefined || row === undefined || row.generation !== node.generation) {
		throw new GpuaasError({
			code: 'PERMISSION_DENIED',
			reason: 'TOKEN_USED',
			message: 'the certificate that this join token gave is no longer in use; create a new token',
		});
	}
	return { node, ...(await issueAgain(deps, row, node.renewalSeq)) };
}

function changedMeanwhile(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'ETAG_MISMATCH',
		message: 'the join token or its node changed while this host enrolled; begin again with the same key',
	});
}

interface UnitInput {
	readonly deps: EnrollmentDeps;
	readonly ctx: RequestContext;
	readonly challenge: Challenge;
	readonly token: JoinTokenRow;
	readonly issue: Issue;
	readonly nowMs: number;
	readonly eventIds: readonly [string, string];
	readonly endings: readonly PreparedEnding[];
}

function* insert(tx: Tx, input: UnitInput): Plan<NodeRow> {
	const { challenge, token, issue, nowMs } = input;
	const { facts, agentVersion } = challenge;
	const node: NodeRow = {
		id: issue.row.subjectId,
		name: yield* freeName(tx, token, facts, issue.row.subjectId),
		state: 'enrolling',
		custody: 'platform',
		generation: issue.row.generation,
		cordoned: false,
		cordonReason: '',
		locked: false,
		lockReason: '',
		labels: token.labels,
		hostname: facts.hostname,
		serial: facts.serial,
		agentVersion,
		bootId: facts.bootId,
		instanceId: '',
		capabilities: [],
		enrolledAtMs: nowMs,
		lastSeenAtMs: null,
		epoch: 0,
		fencingSeq: 0,
		factSeq: 0,
		renewalSeq: issue.renewalSeq,
		recoveries: 0,
		bundleSeqAcked: 0,
		issuerKeyIdAcked: '',
		retiredAtMs: null,
		version: 1,
	};
	yield* tx.nodes.insert(node);
	yield* record(tx, input, node, 'nodes.enroll');
	return node;
}

/** A reimaged machine: the image before may not speak for the node any more, from this commit on. */
function* takeOver(tx: Tx, input: UnitInput, node: NodeRow): Plan<Done> {
	const { deps, challenge, token, issue, nowMs, eventIds, endings } = input;
	const { facts, agentVersion } = challenge;
	yield* revokeNode(tx, { nodeId: node.id, reason: 'enrolled again', nowMs, eventId: eventIds[1] });
	const assignments = yield* endAssignments(tx, deps, node.id, endings, nowMs);
	const changed = yield* tx.nodes.update(node.id, {
		...assignments.patch,
		state: 'enrolling',
		generation: issue.row.generation,
		labels: { ...node.labels, ...token.labels },
		hostname: facts.hostname,
		serial: facts.serial === '' ? node.serial : facts.serial,
		agentVersion,
		bootId: facts.bootId,
		instanceId: '',
		renewalSeq: issue.renewalSeq,
		recoveries: 0,
		bundleSeqAcked: 0,
		issuerKeyIdAcked: '',
	});
	if (changed === undefined) throw changedMeanwhile();
	// The new image has a new journal.
	yield* tx.nodes.setFactSeq(node.id, 0);
	const ended = assignments.closed.map(({ id }) => id).join(' ');
	yield* record(tx, input, changed, 'nodes.reenroll', { assignments_ended: ended });
	return { node: changed, assignments };
}

function* record(tx: Tx, input: UnitInput, node: NodeRow, action: string, more = {}): Plan<void> {
	const { deps, ctx, token, issue, nowMs, eventIds, challenge } = input;
	yield* tx.certificates.insert(issue.row);
	yield* deps.appendAudit(tx, ctx, {
		action,
		target: `nodes/${node.id}`,
		result: 'ok',
		reason: '',
		custody: node.custody,
		detail: {
			name: node.name,
			generation: node.generation,
			token: token.id,
			certificate: issue.row.serial,
			issuer: issue.row.issuerKeyId,
			spki_sha256: issue.row.spkiSha256,
			machine_serial: challenge.facts.serial,
			...more,
		},
	});
	yield* tx.outbox.append({ id: eventIds[0], topic: 'nodes.changed', key: node.id, atMs: nowMs });
}

/** The operator's name must be free; the host's own name is made free. */
function* freeName(tx: Tx, token: JoinTokenRow, facts: HardwareFacts, nodeId: string): Plan<string> {
	if (token.nodeName !== '') {
		if ((yield* tx.nodes.getByName(token.nodeName)) === undefined) return token.nodeName;
		throw new GpuaasError({
			code: 'ALREADY_EXISTS',
			reason: 'NODE_NAME_TAKEN',
			message: `there is a node ${token.nodeName} already; remove it first, or create a token with another name`,
		});
	}
	// Ends of UUIDv7 are random, starts are times that a rack's hosts share.
	const suffix = nodeId.slice(-6);
	const hostname = nameOf(facts.hostname);
	if (hostname === '') return `node-${suffix}`;
	return (yield* tx.nodes.getByName(hostname)) === undefined ? hostname : `${hostname.slice(0, 56)}-${suffix}`;
}

/** The first label of a host name, as a node name may be (tokens.v1 `node_name`). */
function nameOf(hostname: string): string {
	const [label = ''] = hostname.toLowerCase().split('.');
	return label
		.replaceAll(/[^a-z0-9-]+/g, '-')
		.slice(0, 63)
		.replaceAll(/^-+|-+$/g, '');
}

function announce(deps: EnrollmentDeps, ctx: RequestContext, { node, assignments }: Done, isReimage: boolean): void {
	deps.bus.publish({ topic: 'nodes.changed', key: node.id });
	if (isReimage) {
		deps.bus.publish({ topic: 'certificates.revoked', key: node.id });
		const message = `the host was enrolled again as generation ${node.generation}; this image may not speak for it`;
		deps.sessions.close(node.id, CloseCode.STALE_GENERATION, message);
		assignments?.announce(deps);
	}
	const { id, name, generation } = node;
	ctx.log.info(isReimage ? 'node enrolled again' : 'node enrolled', { node: id, name, generation });
}
