import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { type Identity, identityOf } from '../../../pki/trust/identity.ts';
import { CloseCode } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Denylist } from '../certificates/denylist.ts';
import { announceLock, lockClone } from './clone-lock.ts';
import type { IssuingDeps } from './deps.ts';
import { promote } from './promote.ts';

/**
 * The one question at the door of the gateway, asked on *every* stream open and every unary call of an agent, never
 * once per connection: may the holder of this leaf certificate speak for a node now? TLS has proved possession of the
 * key and a path to our root. This adds: accepted issuer, exactly one node name of our trust domain, time, denylist,
 * the node's two slots, its lock and its generation. The first use of a pending certificate promotes it.
 *
 * What the store said is kept for CACHE_MS, and forgotten at once when the node or a certificate of it changes here.
 */
export type StreamAuthorization = AcceptedStream | RefusedStream;

export interface AcceptedStream {
	readonly kind: 'accepted';
	readonly nodeId: string;
	readonly generation: number;
	readonly serial: string;
	readonly issuerKeyId: string;
	/** The stream must end by then: TLS doesn't look again. */
	readonly notAfterMs: number;
}

export interface RefusedStream {
	readonly kind: 'refused';
	/** gpuaas.common.v1.Reason. */
	readonly reason: string;
	readonly message: string;
	/** What ends live streams of the same holder. */
	readonly closeCode: CloseCode;
	/** The node that the certificate names; empty when it names none that can be believed. */
	readonly nodeId: string;
}

/** As long as a hint that was lost may go unnoticed. */
const CACHE_MS = 2000;
/** Twice the largest fleet of one replica. */
const CACHE_ENTRIES_MAX = 40_000;
/**
 * The first use of a new certificate promotes it before the session is open, and until its Welcome the agent opens
 * uploads and channels on its old connection. Those are refused like any other, but for this long they don't lock the
 * node: a store that is slow for one Welcome (agent/control/control-deps.ts: 15 s), the pause before the next try (20 s)
 * and that one's Welcome must pass. A copy that comes again after it is found as before.
 */
export const SUPERSEDED_GRACE_MS = 60_000;

interface Cached {
	readonly accepted: AcceptedStream;
	readonly untilMs: number;
}

export class StreamGuard implements Disposable {
	readonly #deps: IssuingDeps;
	readonly #denylist: Denylist;
	readonly #cache = new Map<string, Cached>();
	readonly #serials = new Map<string, Set<string>>();
	readonly #unsubscribe: readonly (() => void)[];

	constructor(deps: IssuingDeps, denylist: Denylist) {
		this.#deps = deps;
		this.#denylist = denylist;
		const forget = (nodeId: string) => this.#forget(nodeId);
		denylist.onDenied(forget);
		this.#unsubscribe = ['nodes.changed', 'certificates.changed', 'certificates.revoked'].map((topic) =>
			deps.bus.subscribe(topic, ({ key }) => forget(key)),
		);
	}

	[Symbol.dispose](): void {
		for (const unsubscribe of this.#unsubscribe) unsubscribe();
	}

	/** `leafDer`: the raw certificate of the connection (`getPeerCertificate().raw`). */
	async authorizeStream(ctx: RequestContext, leafDer: Uint8Array): Promise<StreamAuthorization> {
		const { authority, clock } = this.#deps;
		const identity = identityOf(leafDer, {
			trustDomain: authority.trustDomain,
			acceptedIssuerKeyIds: authority.acceptedNodeIssuers(),
			expect: 'node',
			nowMs: clock.now(),
		});
		if (identity.kind === 'refused') return refused(identity.reason, identity.message, '');
		const { id: nodeId, serialHex: serial } = identity;
		if (this.#denylist.has(serial)) return revoked(nodeId);
		const cached = this.#cache.get(serial);
		if (cached !== undefined && cached.untilMs > clock.monotonic() && cached.accepted.nodeId === nodeId) {
			return cached.accepted;
		}
		const judged = await this.#judge(asNode(ctx, identity), identity);
		// A revocation may have come while the store answered.
		if (judged.kind === 'accepted' && this.#denylist.has(serial)) return revoked(nodeId);
		if (judged.kind === 'accepted') this.#remember(judged);
		return judged;
	}

	async #judge(ctx: RequestContext, identity: Identity): Promise<StreamAuthorization> {
		const deps = this.#deps;
		const { store, clock, rng } = deps;
		const nowMs = clock.now();
		const seen = await store.read((tx) => look(tx, identity));
		const verdict = verdictOf(identity, seen, nowMs);
		if (verdict.kind !== 'promote' && verdict.kind !== 'clone') return verdict;
		const eventId = uuidv7(nowMs, rng);
		const settled = await store.unit(function* (tx): Plan<StreamAuthorization> {
			// Again inside the unit: another stream may have settled it meanwhile.
			const now = yield* look(tx, identity);
			const again = verdictOf(identity, now, nowMs);
			if (again.kind === 'promote') {
				yield* promote(deps, tx, ctx, { node: again.node, pending: again.pending, eventId, nowMs });
				return accepted(again.node, identity);
			}
			if (again.kind === 'clone') {
				const { serialHex: serial } = identity;
				yield* lockClone(deps, tx, ctx, { node: again.node, serial, seenAt: 'new stream', eventId, nowMs });
				return superseded(again.node);
			}
			return again;
		});
		if (verdict.kind === 'clone') announceLock(deps, ctx, verdict.node, identity.serialHex);
		else deps.bus.publish({ topic: 'nodes.changed', key: identity.id });
		return settled;
	}

	#remember(stream: AcceptedStream): void {
		if (this.#cache.size >= CACHE_ENTRIES_MAX) {
			this.#cache.clear();
			this.#serials.clear();
		}
		this.#cache.set(stream.serial, { accepted: stream, untilMs: this.#deps.clock.monotonic() + CACHE_MS });
		const serials = this.#serials.get(stream.nodeId);
		if (serials === undefined) this.#serials.set(stream.nodeId, new Set([stream.serial]));
		else serials.add(stream.serial);
	}

	#forget(nodeId: string): void {
		for (const serial of this.#serials.get(nodeId) ?? []) this.#cache.delete(serial);
		this.#serials.delete(nodeId);
	}
}

/** From here on the peer is known, and records name it. */
function asNode(ctx: RequestContext, { id, serialHex, notAfterMs }: Identity): RequestContext {
	const known = { kind: 'node' as const, id, displayName: id, credentialId: serialHex };
	return { ...ctx, actor: { ...known, credentialExpiresAtMs: notAfterMs } };
}

interface Seen {
	readonly node: NodeRow | undefined;
	readonly certificate: CertificateRow | undefined;
	readonly current: CertificateRow | undefined;
}

function* look(tx: Tx, identity: Identity): Plan<Seen> {
	const certificate = yield* tx.certificates.get(identity.serialHex);
	const node = yield* tx.nodes.get(identity.id);
	const { current } = yield* tx.certificates.slots(identity.id);
	return { node, certificate, current };
}

type Verdict =
	| StreamAuthorization
	| { readonly kind: 'promote'; readonly node: NodeRow; readonly pending: CertificateRow }
	| { readonly kind: 'clone'; readonly node: NodeRow };

function verdictOf(identity: Identity, { node, certificate, current }: Seen, nowMs: number): Verdict {
	if (node === undefined) {
		const message = 'this control plane has no such node: enroll the host again, or look for a restored old backup';
		return refused('NODE_NOT_FOUND', message, identity.id);
	}
	if (node.state === 'retired') {
		return refused('NODE_RETIRED', `node ${node.name} was removed; enroll the host again with a new token`, node.id);
	}
	const isOurs =
		certificate?.kind === 'node' &&
		certificate.subjectId === node.id &&
		certificate.spkiSha256 === identity.spkiSha256Hex;
	if (!isOurs) {
		const message = 'this control plane has not issued that certificate, or was restored from before it did';
		return refused('CERTIFICATE_NOT_FOUND', message, node.id);
	}
	if (certificate.state === 'revoked') return revoked(node.id);
	if (certificate.generation < node.generation) {
		const message = `this image is generation ${certificate.generation} of node ${node.name}, which was reimaged to ${node.generation}; stop it`;
		return refused('STALE_GENERATION', message, node.id);
	}
	if (node.locked) return locked(node);
	if (certificate.state === 'current') return accepted(node, identity);
	if (certificate.state === 'pending') return { kind: 'promote', node, pending: certificate };
	const promotedAtMs = current?.firstUsedAtMs ?? 0;
	return nowMs - promotedAtMs < SUPERSEDED_GRACE_MS ? superseded(node) : { kind: 'clone', node };
}

function accepted(node: NodeRow, identity: Identity): AcceptedStream {
	return {
		kind: 'accepted',
		nodeId: node.id,
		generation: node.generation,
		serial: identity.serialHex,
		issuerKeyId: identity.issuerKeyIdHex,
		notAfterMs: identity.notAfterMs,
	};
}

const CLOSE_CODE: Readonly<Record<string, CloseCode>> = {
	CERTIFICATE_EXPIRED: CloseCode.CERTIFICATE_EXPIRED,
	CERTIFICATE_REVOKED: CloseCode.REVOKED,
	CERTIFICATE_SUPERSEDED: CloseCode.LOCKED,
	NODE_LOCKED: CloseCode.LOCKED,
	NODE_RETIRED: CloseCode.REVOKED,
	STALE_GENERATION: CloseCode.STALE_GENERATION,
};

function refused(reason: string, message: string, nodeId: string): RefusedStream {
	return { kind: 'refused', reason, message, nodeId, closeCode: CLOSE_CODE[reason] ?? CloseCode.PROTOCOL };
}

function revoked(nodeId: string): RefusedStream {
	const message = 'the certificate was revoked; if this host is to come back, enroll it again with a new token';
	return refused('CERTIFICATE_REVOKED', message, nodeId);
}

function locked(node: NodeRow): RefusedStream {
	const message = `node ${node.name} is locked (${node.lockReason}); an operator must look at it and unlock it`;
	return refused('NODE_LOCKED', message, node.id);
}

function superseded(node: NodeRow): RefusedStream {
	const message = `a newer certificate of node ${node.name} is in use: use that one; if this host has none, it is a copy`;
	return refused('CERTIFICATE_SUPERSEDED', message, node.id);
}

/** The refusal as what an RPC fails with. */
export function refusalError(refusal: RefusedStream): GpuaasError {
	const { reason, message } = refusal;
	const code = reason === 'NODE_LOCKED' ? 'PERMISSION_DENIED' : 'UNAUTHENTICATED';
	return new GpuaasError({ code, reason, message });
}
