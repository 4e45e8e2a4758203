import { create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { every, type Timer } from '../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { KeyedBuckets } from '../../kit/limits.ts';
import { SparingLog } from '../../kit/sparing-log.ts';
import {
	CloseCode,
	type ConnectRequest,
	type ConnectResponse,
	ConnectResponseSchema,
	type Hello,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { shareEncoded } from '../../proto/grpc.ts';
import type { AcceptedStream } from '../app/enrollment/authorize-stream.ts';
import { closeSession } from '../app/sessions/close-session.ts';
import { HelloAdmission } from '../app/sessions/hello-admission.ts';
import { type FleetPace, fleetPace } from '../app/sessions/lease-ttl.ts';
import { openSession } from '../app/sessions/open-session.ts';
import { type LeaseRenewal, renewLeases } from '../app/sessions/renew-leases.ts';
import { closeCodeOf, statusOfClose } from './close-reason.ts';
import { nodeContext } from './context.ts';
import { violation } from './frames.ts';
import type { LinkDeps } from './link-deps.ts';
import { LinkSession } from './link-session.ts';
import type { ServerStream, StreamListener } from './stream.ts';

/**
 * The agent link: every `Connect` stream of this replica, from its first byte to its end. A stream says Hello, is
 * admitted, authorized, given an epoch in one unit of work, and is then a session (link-session.ts) in the registry.
 * One timer serves all sessions: it renews leases in one unit, and ends what is silent, expired or won't end.
 *
 * Admission comes before authorization: in a storm the store must not be asked by those who are sent away. Nothing
 * that a refused stream sees depends on who it says it is.
 *
 * Called by server.ts with gRPC streams and by the simulation with streams in memory.
 */
const FLEET_COUNT_PERIOD_MS = 30_000;

/** A stream that isn't a session yet. */
interface Opening {
	readonly stream: ServerStream<ConnectResponse>;
	readonly sinceMs: number;
	session: LinkSession | undefined;
	state: 'waiting' | 'opening' | 'session' | 'ended';
	cutAtMs: number;
}

interface Refusal {
	readonly kind: 'refused';
	readonly code: CloseCode;
	readonly message: string;
	readonly retryAfterMs: number | undefined;
}

export class AgentLink {
	readonly #deps: LinkDeps;
	readonly #admission: HelloAdmission;
	readonly #perNode: KeyedBuckets;
	/** What every agent of a fleet can bring about, again and again: by connecting, or by a store that takes nothing. */
	readonly #floods: SparingLog;
	readonly #openings = new Set<Opening>();
	readonly #sessions = new Set<LinkSession>();
	/** Those that the next renewal asks: at each tick who sent a heartbeat, at each sweep everybody. */
	readonly #due = new Set<LinkSession>();
	/** Sessions that were closed and whose stream hasn't ended. */
	readonly #closing = new Set<LinkSession>();
	readonly #ending = new Set<Promise<void>>();
	#pace: FleetPace;
	#timer: Timer | undefined;
	#renewing = false;
	#countedAtMs = Number.NEGATIVE_INFINITY;
	#sweptAtMs = Number.NEGATIVE_INFINITY;
	#shuttingDown = false;

	constructor(deps: LinkDeps) {
		this.#deps = deps;
		const { clock, rng, limits } = deps.app;
		this.#floods = new SparingLog(deps.app.log, clock);
		this.#admission = new HelloAdmission(clock, rng, limits.hellosPerSecondMax);
		const { sessionsPerMinutePerNode, sessionsBurstPerNode } = deps.limits;
		// As many keys as a fleet has nodes: a bucket that is forgotten early is a full one.
		this.#perNode = new KeyedBuckets(clock, sessionsPerMinutePerNode / 60, sessionsBurstPerNode, 100_000);
		this.#pace = this.#paceOf(0);
	}

	/** Starts the common timer; streams may be accepted from now on. */
	start(): void {
		const { clock, log } = this.#deps.app;
		this.#timer = every(
			clock,
			this.#deps.limits.tickMs,
			() => this.#tick(),
			(error) => log.error('link tick failed', { error }),
		);
	}

	get leaseTtlMs(): number {
		return this.#pace.leaseTtlMs;
	}

	get sessionCount(): number {
		return this.#sessions.size;
	}

	accept(stream: ServerStream<ConnectResponse>): StreamListener<ConnectRequest> {
		const opening: Opening = {
			stream,
			sinceMs: this.#deps.app.clock.monotonic(),
			session: undefined,
			state: 'waiting',
			cutAtMs: Number.POSITIVE_INFINITY,
		};
		this.#openings.add(opening);
		return {
			onFrame: (frame) => {
				if (opening.session !== undefined) opening.session.onFrame(frame);
				else this.#first(opening, frame);
			},
			onWritable: () => opening.session?.onWritable(),
			onEnd: () => {
				if (opening.session === undefined)
					this.#refuse(opening, CloseCode.PROTOCOL, 'the stream ended before its Hello');
				// A half-closed link can't be spoken for: it ends.
				else opening.session.close(CloseCode.SHUTTING_DOWN, 'the agent ended the stream');
			},
			onClosed: () => {
				opening.state = 'ended';
				this.#openings.delete(opening);
				if (opening.session === undefined) return;
				opening.session.closed();
				this.#closing.delete(opening.session);
			},
		};
	}

	/** Sends everybody away, spread over time, and waits until what was committed is recorded. */
	async shutdown(): Promise<void> {
		this.#shuttingDown = true;
		const { rng } = this.#deps.app;
		const retryAfterMs = () => rng.float() * this.#deps.limits.shutdownSpreadMs;
		const message = 'this replica of the control plane is shutting down; connect again';
		for (const opening of [...this.#openings])
			if (opening.session === undefined) this.#refuse(opening, CloseCode.SHUTTING_DOWN, message, retryAfterMs());
		for (const session of [...this.#sessions]) session.close(CloseCode.SHUTTING_DOWN, message, retryAfterMs());
		this.#timer?.cancel();
		await Promise.all(this.#ending);
	}

	/** Streams of any state that haven't ended. */
	get streamCount(): number {
		return this.#openings.size + this.#sessions.size + this.#closing.size;
	}

	/** Cuts the streams that didn't end after `shutdown`. */
	cutAll(): void {
		for (const session of this.#closing) session.cut();
		for (const opening of this.#openings) opening.stream.destroy();
	}

	#first(opening: Opening, frame: ConnectRequest): void {
		if (opening.state === 'ended') return;
		const judged = this.#judgeFirst(opening, frame);
		if (judged.kind === 'refused') {
			this.#refuse(opening, judged.code, judged.message, judged.retryAfterMs);
			return;
		}
		opening.state = 'opening';
		this.#open(opening, judged.hello).catch((error: unknown) => {
			const fault = GpuaasError.from(error);
			this.#floods.warn('session was not opened', { peer: opening.stream.peer, error });
			this.#refuse(opening, CloseCode.OVERLOADED, fault.message, this.#pace.leaseTtlMs / 3);
		});
	}

	#judgeFirst(
		{ state }: Opening,
		{ message }: ConnectRequest,
	): { readonly kind: 'hello'; readonly hello: Hello } | Refusal {
		const refused = (code: CloseCode, text: string, retryAfterMs?: number): Refusal => ({
			kind: 'refused',
			code,
			message: text,
			retryAfterMs,
		});
		if (state !== 'waiting') return refused(CloseCode.PROTOCOL, 'nothing may follow Hello before Welcome');
		if (message.case !== 'hello') return refused(CloseCode.PROTOCOL, 'the first message must be Hello');
		const fault = violation(message.value);
		if (fault !== undefined) return refused(CloseCode.PROTOCOL, fault);
		if (this.#shuttingDown) return refused(CloseCode.SHUTTING_DOWN, 'this replica is shutting down', 1000);
		const retryAfterMs = this.#admission.admit();
		if (retryAfterMs === 0) return { kind: 'hello', hello: message.value };
		return refused(
			CloseCode.OVERLOADED,
			'too many agents connect at once; connect again after retry_after',
			retryAfterMs,
		);
	}

	async #open(opening: Opening, hello: Hello): Promise<void> {
		const { app, registry } = this.#deps;
		const { stream } = opening;
		const correlationId = uuidv7(app.clock.now(), app.rng);
		const anonymous = nodeContext(app, 'Connect', stream.peer, correlationId, undefined);
		// Before all that reads the database: one that was restored from an old backup may not know this node any more.
		app.heads.witness(hello.auditHead);
		const authorized = await this.#deps.authorizeStream(anonymous, stream.leafDer);
		if (authorized.kind === 'refused') {
			const { nodeId: node, reason } = authorized;
			this.#floods.warn('agent stream refused', { peer: stream.peer, node, reason });
			this.#refuse(opening, authorized.closeCode, authorized.message, undefined, authorized.reason);
			return;
		}
		const peer = authorized;
		if (hello.nodeId !== peer.nodeId) {
			const named = { node: peer.nodeId, named: hello.nodeId };
			this.#floods.warn('agent named another node', { peer: stream.peer, ...named });
			this.#refuse(opening, CloseCode.PROTOCOL, "Hello names another node than the stream's certificate");
			return;
		}
		const waitMs = this.#perNode.take(peer.nodeId);
		if (waitMs > 0) {
			this.#admission.giveBack();
			this.#refuse(opening, CloseCode.OVERLOADED, 'this node opens sessions too often', waitMs);
			return;
		}
		const ctx = nodeContext(app, 'Connect', stream.peer, correlationId, peer);
		const bundleSeq = Math.min(Number(hello.bundleSeq), app.authority.bundle().seq);
		const { nodeId, issuerKeyId } = peer;
		const request = { nodeId, hello, bundleSeq, issuerKeyId, leaseTtlMs: this.#pace.leaseTtlMs };
		const result = await openSession(app, ctx, request);
		if (result.kind === 'refused') {
			this.#refuse(opening, closeCodeOf(result.reason), result.message, undefined, result.reason);
			return;
		}
		if (opening.state !== 'opening') {
			// The stream broke meanwhile.
			this.#track(closeSession(app, peer.nodeId, result.epoch));
			return;
		}

		const commandStream = `${app.replicaId}/${result.epoch}`;
		const opened = { peer, epoch: result.epoch, factSeq: result.factSeq, bundleSeq, commandStream };
		const session = new LinkSession(this.#deps, ctx, stream, opened, {
			heartbeat: (heard) => this.#due.add(heard),
			uncommitted: ({ nodeId: node }, error) =>
				this.#floods.warn('facts were not committed', { node, error: messageOf(error) }),
			end: (ended) => this.#ended(ended),
		});
		opening.session = session;
		opening.state = 'session';
		this.#openings.delete(opening);
		this.#sessions.add(session);
		if (!registry.add(session)) return;
		session.welcome({
			...this.#welcome(hello, peer, result.epoch, BigInt(result.factSeq), commandStream),
			fencingSeq: BigInt(result.fencingSeq),
		});
		if (result.journalRestarted) ctx.log.warn("the agent's journal is new or was restored", { node: peer.nodeId });
		this.#deps.onSessionOpen({ nodeId: peer.nodeId, epoch: result.epoch });
	}

	#welcome(hello: Hello, peer: AcceptedStream, epoch: number, factAck: bigint, commandStream: string) {
		const { app } = this.#deps;
		const bundle = app.authority.bundle();
		return {
			epoch: BigInt(epoch),
			leaseTtl: durationFromMs(this.#pace.leaseTtlMs),
			telemetryPlan: this.#telemetryPlan(peer.nodeId),
			serverTime: timestampFromMs(app.clock.now()),
			factAck,
			bundle: bundle.seq > Number(hello.bundleSeq) ? bundle.bytes : new Uint8Array(),
			reconnectMax: durationFromMs(this.#pace.reconnectMaxMs),
			// CA rotation: certificates of the former issuer are replaced before it goes.
			renewNow: peer.issuerKeyId !== app.authority.activeNodeIssuer(),
			replicaId: app.replicaId,
			commandStream,
		};
	}

	#telemetryPlan(nodeId: string) {
		const period = durationFromMs(this.#deps.limits.telemetryPeriodMs);
		const fast = this.#deps.fastPlanOf(nodeId);
		if (fast === undefined) return { period };
		return { period, fastPeriod: durationFromMs(fast.fastPeriodMs), fastUntil: timestampFromMs(fast.fastUntilMs) };
	}

	#refuse(opening: Opening, code: CloseCode, message: string, retryAfterMs?: number, reason?: string): void {
		if (opening.state === 'ended' || opening.state === 'session') return;
		opening.state = 'ended';
		opening.cutAtMs = this.#deps.app.clock.monotonic() + this.#deps.limits.closeGraceMs;
		const retryAfter = retryAfterMs === undefined ? {} : { retryAfter: durationFromMs(Math.ceil(retryAfterMs)) };
		const value = { code, message, ...retryAfter };
		opening.stream.send(create(ConnectResponseSchema, { message: { case: 'close', value } }));
		opening.stream.end(statusOfClose(code, message, retryAfterMs, reason));
	}

	#ended(session: LinkSession): void {
		this.#sessions.delete(session);
		this.#due.delete(session);
		if (session.cutAtMs !== Number.POSITIVE_INFINITY) this.#closing.add(session);
		this.#deps.registry.remove(session);
		this.#track(closeSession(this.#deps.app, session.nodeId, session.epoch));
	}

	#track(work: Promise<void>): void {
		const tracked = work
			.catch((error: unknown) => {
				// The lease runs out by itself: nothing is lost but the time of the disconnect.
				this.#floods.warn('the end of a session was not recorded', { error: messageOf(error) });
			})
			.finally(() => this.#ending.delete(tracked));
		this.#ending.add(tracked);
	}

	#tick(): void {
		const { clock } = this.#deps.app;
		const nowMs = clock.monotonic();
		this.#sweepOpenings(nowMs);
		if (nowMs - this.#sweptAtMs >= this.#deps.limits.sweepMs) {
			this.#sweptAtMs = nowMs;
			this.#sweepSessions(nowMs, clock.now());
		}
		if (!this.#renewing) void this.#renew(nowMs);
		if (nowMs - this.#countedAtMs >= FLEET_COUNT_PERIOD_MS) {
			this.#countedAtMs = nowMs;
			void this.#count();
		}
	}

	#sweepSessions(nowMs: number, wallMs: number): void {
		const silentMsMax = this.#pace.leaseTtlMs + this.#deps.limits.sweepMs;
		for (const session of this.#sessions) {
			this.#due.add(session);
			if (wallMs >= session.notAfterMs)
				session.close(CloseCode.CERTIFICATE_EXPIRED, 'the certificate that opened this stream has expired');
			else if (session.silentMs(nowMs) > silentMsMax)
				session.close(CloseCode.LEASE_EXPIRED, 'nothing was heard of the agent for a whole lease');
		}
		this.#deps.registry.expireAttached(wallMs);
	}

	#sweepOpenings(nowMs: number): void {
		for (const session of this.#closing) if (nowMs >= session.cutAtMs) session.cut();
		for (const opening of this.#openings) {
			if (nowMs >= opening.cutAtMs) opening.stream.destroy();
			else if (opening.state === 'waiting' && nowMs - opening.sinceMs > this.#deps.limits.helloTimeoutMs)
				this.#refuse(opening, CloseCode.PROTOCOL, 'no Hello came');
		}
	}

	async #renew(nowMs: number): Promise<void> {
		const { leaseTtlMs } = this.#pace;
		const renewals: LeaseRenewal[] = [];
		const sessions: LinkSession[] = [];
		for (const session of this.#due) {
			const renewal = session.takeRenewal(nowMs, leaseTtlMs);
			if (renewal === undefined) continue;
			renewals.push(renewal);
			sessions.push(session);
		}
		this.#due.clear();
		if (renewals.length === 0) return;
		this.#renewing = true;
		try {
			const superseded = await renewLeases(this.#deps.app, renewals, leaseTtlMs);
			const ack = this.#leaseAck(leaseTtlMs);
			for (const session of sessions) {
				if (!superseded.has(session.nodeId)) session.renewed(ack);
				else session.close(CloseCode.SUPERSEDED, 'a newer session of this node is on another replica');
			}
		} catch (error) {
			this.#floods.warn('leases were not renewed; trying again', { sessions: sessions.length, error });
			for (const [index, session] of sessions.entries()) {
				const renewal = renewals[index];
				if (renewal !== undefined) session.restoreRenewal(renewal);
				if (this.#sessions.has(session)) this.#due.add(session);
			}
		} finally {
			this.#renewing = false;
		}
	}

	/** Encoded once for all who get it. */
	#leaseAck(leaseTtlMs: number): ConnectResponse {
		const { clock, heads } = this.#deps.app;
		const value = {
			leaseTtl: durationFromMs(leaseTtlMs),
			serverTime: timestampFromMs(clock.now()),
			auditHead: heads.latest(),
		};
		const ack = create(ConnectResponseSchema, { message: { case: 'leaseAck', value } });
		shareEncoded(ConnectResponseSchema, ack);
		return ack;
	}

	async #count(): Promise<void> {
		try {
			this.#pace = this.#paceOf(await this.#deps.app.store.read((tx) => tx.nodes.count()));
		} catch (error) {
			this.#deps.app.log.warn('the fleet was not counted; its last size stays', { error: messageOf(error) });
		}
	}

	#paceOf(nodes: number): FleetPace {
		const { leaseTtlFloorMs, hellosPerSecondMax } = this.#deps.app.limits;
		const { heartbeatsPerSecondMax, reconnectFloorMs } = this.#deps.limits;
		return fleetPace(nodes, { leaseTtlFloorMs, hellosPerSecondMax, heartbeatsPerSecondMax, reconnectFloorMs });
	}
}
