import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../kit/error.ts';
import {
	CloseCode,
	type ConnectRequest,
	type ConnectResponse,
	ConnectResponseSchema,
	type Fact,
	type Heartbeat,
	type TaskRefused,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { AcceptedStream } from '../app/enrollment/authorize-stream.ts';
import type { DeclinedTask } from '../app/sessions/agent-sessions.ts';
import { type CommandInit, CommandStream } from '../app/sessions/command-stream.ts';
import type { LiveSession } from '../app/sessions/registry.ts';
import type { LeaseRenewal } from '../app/sessions/renew-leases.ts';
import type { RequestContext } from '../context.ts';
import { closeName, statusOfClose } from './close-reason.ts';
import { factBytes, violation } from './frames.ts';
import type { LinkDeps } from './link-deps.ts';
import type { ServerStream } from './stream.ts';

/**
 * One welcomed session of one node. Reads: facts into a bounded queue that is committed in order and acknowledged
 * after the commit; heartbeats for the next batched renewal. Writes: one pump that sends the newest acknowledgement,
 * the newest lease and then commands, only while the stream takes them, so that a slow agent costs a few frames of
 * memory. Ends once, by `close` or because the stream broke; its listener hears of it then.
 */
/** Another replica changed the same rows, or the store can't commit now. */
const TRANSIENT: ReadonlySet<string> = new Set(['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'ABORTED']);

type Out = NonNullable<MessageInitShape<typeof ConnectResponseSchema>['message']>;

export interface SessionListener {
	/** One came that the next renewal should answer. */
	heartbeat(session: LinkSession): void;
	/** Facts that the store doesn't take now are tried again, as often as that takes. */
	uncommitted(session: LinkSession, error: unknown): void;
	/** Once, and last. */
	end(session: LinkSession): void;
}

export class LinkSession implements LiveSession {
	readonly nodeId: string;
	readonly epoch: number;
	readonly serial: string;
	readonly notAfterMs: number;
	readonly commands: CommandStream;
	declined: DeclinedTask | undefined;
	readonly #deps: LinkDeps;
	readonly #ctx: RequestContext;
	readonly #stream: ServerStream<ConnectResponse>;
	readonly #on: SessionListener;
	#state: 'open' | 'closing' | 'closed' = 'open';
	#writable = true;
	#paused = false;
	#facts: Fact[] = [];
	#factBytes = 0;
	#lastFactSeq: bigint;
	#committing = false;
	#ackedFactSeq: bigint;
	#factAck: bigint | undefined;
	#declined: TaskRefused[] = [];
	#recordingDeclined = false;
	#leaseAck: ConnectResponse | undefined;
	#heartbeat: Heartbeat | undefined;
	#bundleSeq: number;
	/** On the monotonic clock. */
	#lastHeardMs: number;
	#renewedAtMs: number;
	/** On the monotonic clock: when a closing stream is cut. */
	cutAtMs = Number.POSITIVE_INFINITY;

	constructor(
		deps: LinkDeps,
		ctx: RequestContext,
		stream: ServerStream<ConnectResponse>,
		opened: {
			readonly peer: AcceptedStream;
			readonly epoch: number;
			readonly factSeq: number;
			readonly bundleSeq: number;
			readonly commandStream: string;
		},
		on: SessionListener,
	) {
		const { peer, epoch, factSeq, bundleSeq, commandStream } = opened;
		this.nodeId = peer.nodeId;
		this.epoch = epoch;
		this.serial = peer.serial;
		this.notAfterMs = peer.notAfterMs;
		this.commands = new CommandStream(
			commandStream,
			deps.app.limits.offersInFlightPerNodeMax,
			deps.limits.commandsUnackedMax,
		);
		this.#deps = deps;
		this.#ctx = ctx;
		this.#stream = stream;
		this.#on = on;
		this.#lastFactSeq = BigInt(factSeq);
		this.#ackedFactSeq = BigInt(factSeq);
		this.#bundleSeq = bundleSeq;
		this.#lastHeardMs = deps.app.clock.monotonic();
		this.#renewedAtMs = this.#lastHeardMs;
	}

	/** When the agent was last heard, as far as we listened: while we hold it back its silence is ours. */
	silentMs(nowMs: number): number {
		return this.#paused ? 0 : nowMs - this.#lastHeardMs;
	}

	/** The first frame. */
	welcome(welcome: Extract<Out, { case: 'welcome' }>['value']): void {
		this.#send({ case: 'welcome', value: welcome });
	}

	command(key: string, command: CommandInit): boolean {
		if (this.#state !== 'open' || !this.commands.push(key, command)) return false;
		this.#pump();
		return true;
	}

	close(code: CloseCode, message: string, retryAfterMs?: number): void {
		if (this.#state !== 'open') return;
		this.#ctx.log.info('session closed', { node: this.nodeId, epoch: this.epoch, code: closeName(code), message });
		// What is committed is said even now: else the agent sends it again.
		if (this.#factAck !== undefined) this.#send({ case: 'factAck', value: this.#factAck });
		const retryAfter = retryAfterMs === undefined ? {} : { retryAfter: durationFromMs(Math.ceil(retryAfterMs)) };
		this.#send({ case: 'close', value: { code, message, ...retryAfter } });
		this.#state = 'closing';
		this.cutAtMs = this.#deps.app.clock.monotonic() + this.#deps.limits.closeGraceMs;
		this.#stream.end(statusOfClose(code, message, retryAfterMs));
		this.#drop();
		// Unread frames would keep the stream from ending.
		this.#stream.resume();
		this.#on.end(this);
	}

	/** The stream is gone. */
	closed(): void {
		const wasOpen = this.#state === 'open';
		this.#state = 'closed';
		this.cutAtMs = Number.POSITIVE_INFINITY;
		this.#drop();
		if (wasOpen) this.#on.end(this);
	}

	cut(): void {
		this.#stream.destroy();
	}

	onWritable(): void {
		this.#writable = true;
		this.#pump();
	}

	onFrame(frame: ConnectRequest): void {
		if (this.#state !== 'open') return;
		this.#lastHeardMs = this.#deps.app.clock.monotonic();
		const { message } = frame;
		switch (message.case) {
			case 'fact':
				this.#takeFacts([message.value], violation(message.value));
				return;
			case 'facts':
				this.#takeFacts(message.value.facts, violation(message.value));
				if (message.value.commandAck > 0n) this.#takeCommandAck(message.value.commandAck);
				return;
			case 'heartbeat':
				this.#heartbeat = message.value;
				this.#on.heartbeat(this);
				return;
			case 'commandAck':
				this.#takeCommandAck(message.value);
				return;
			case 'telemetry':
				// Judged by whoever ingests: a bad frame costs itself, never the session.
				this.#deps.ingestTelemetry(this.nodeId, message.value);
				return;
			case 'historyAnswer':
				if (violation(message.value) === undefined) this.#deps.historyAnswer(this.nodeId, message.value);
				return;
			case 'channels': {
				const fault = violation(message.value);
				if (fault === undefined) this.#deps.onChannels(this.nodeId, message.value.channelIds);
				else this.#protocol(fault);
				return;
			}
			case 'taskDeclined': {
				const fault = violation(message.value);
				if (fault === undefined) this.#takeDeclined(message.value);
				else this.#protocol(fault);
				return;
			}
			case 'goodbye':
				// No new work; the agent ends the stream itself.
				this.#deps.registry.remove(this);
				return;
			default:
				this.#protocol(`a ${message.case ?? 'message of an unknown kind'} isn't expected here`);
		}
	}

	/** What the next batched renewal should say; undefined when nothing was heard that needs one. */
	takeRenewal(nowMs: number, leaseTtlMs: number): LeaseRenewal | undefined {
		const heartbeat = this.#heartbeat;
		const isDue =
			(this.#paused || this.#lastHeardMs > this.#renewedAtMs) && nowMs - this.#renewedAtMs >= leaseTtlMs / 3;
		if (this.#state !== 'open' || (heartbeat === undefined && !isDue)) return undefined;
		this.#heartbeat = undefined;
		this.#renewedAtMs = nowMs;
		const { nodeId, epoch } = this;
		if (heartbeat === undefined) return { nodeId, epoch };
		const bundleSeq = this.#heldBundle(heartbeat.bundleSeq);
		if (bundleSeq === this.#bundleSeq) return { nodeId, epoch };
		this.#bundleSeq = bundleSeq;
		return { nodeId, epoch, bundleSeqAcked: bundleSeq };
	}

	/** The renewal failed: say it again with the next. */
	restoreRenewal(renewal: LeaseRenewal): void {
		this.#renewedAtMs = Number.NEGATIVE_INFINITY;
		// No real sequence, so that the next heartbeat is written whatever it says.
		if (renewal.bundleSeqAcked !== undefined) this.#bundleSeq = -1;
	}

	/** `leaseAck` is the same for all sessions of a renewal. */
	renewed(leaseAck: ConnectResponse): void {
		this.#leaseAck = leaseAck;
		this.#pump();
	}

	/** Nobody holds a bundle that isn't made yet; and one agent's number must not fail the unit of all others. */
	#heldBundle(claimedSeq: bigint): number {
		return Math.min(Number(claimedSeq), this.#deps.app.authority.bundle().seq);
	}

	#takeCommandAck(seq: bigint): void {
		if (this.#state !== 'open') return;
		if (this.commands.ack(seq)) this.#pump();
		else this.#protocol(`command ${seq} was acknowledged and never sent`);
	}

	#takeFacts(facts: readonly Fact[], fault: string | undefined): void {
		if (fault !== undefined) {
			this.#protocol(`fact ${facts[0]?.seq}: ${fault}`);
			return;
		}
		for (const fact of facts) {
			if (fact.seq <= this.#lastFactSeq) {
				this.#protocol(`fact ${fact.seq}: came after fact ${this.#lastFactSeq}, and facts rise`);
				return;
			}
			this.#lastFactSeq = fact.seq;
			this.#facts.push(fact);
			this.#factBytes += factBytes(fact);
		}
		const { factsQueuedMax, factBytesQueuedMax } = this.#deps.limits;
		if (!this.#paused && (this.#facts.length >= factsQueuedMax || this.#factBytes >= factBytesQueuedMax)) {
			this.#paused = true;
			this.#stream.pause();
		}
		if (!this.#committing) {
			this.#committing = true;
			// After the I/O that is ready now: facts that arrived together are committed together.
			this.#deps.app.clock.defer(() => void this.#commit());
		}
	}

	/** Recorded together. More than may be on their way to an agent are dropped: they are offered again. */
	#takeDeclined(declined: TaskRefused): void {
		const { clock, limits } = this.#deps.app;
		this.declined = { reason: declined.reason, message: declined.message, atMs: clock.now() };
		if (this.#declined.length >= limits.offersInFlightPerNodeMax) return;
		this.#declined.push(declined);
		if (this.#recordingDeclined) return;
		this.#recordingDeclined = true;
		clock.defer(() => void this.#recordDeclined());
	}

	async #recordDeclined(): Promise<void> {
		while (this.#declined.length > 0) await this.#deps.recordDeclined(this.#ctx, this, this.#declined.splice(0));
		this.#recordingDeclined = false;
	}

	async #commit(): Promise<void> {
		const { factsPerUnitMax, tickMs } = this.#deps.limits;
		while (this.#state === 'open' && this.#facts.length > 0) {
			const batch = this.#facts.slice(0, factsPerUnitMax);
			let acked: bigint;
			try {
				acked = await this.#deps.recordFacts(this.#ctx, this, batch);
			} catch (error) {
				if (!this.#isTransient(error)) break;
				// The facts stay, the stream is held back: an outage of the store must not send the fleet to reconnect.
				this.#deps.app.clock.setTimer(() => void this.#commit(), tickMs);
				return;
			}
			if (this.#state !== 'open') break;
			this.#facts.splice(0, batch.length);
			for (const fact of batch) this.#factBytes -= factBytes(fact);
			if (acked > this.#ackedFactSeq) {
				this.#ackedFactSeq = acked;
				this.#factAck = acked;
				this.#pump();
			}
			if (this.#paused && this.#facts.length <= this.#deps.limits.factsQueuedMax / 4) {
				this.#paused = false;
				this.#lastHeardMs = this.#deps.app.clock.monotonic();
				this.#stream.resume();
			}
		}
		this.#committing = false;
	}

	/** Closes the session when waiting can't help. */
	#isTransient(error: unknown): boolean {
		const fault = GpuaasError.from(error);
		if (this.#state !== 'open') return false;
		this.#on.uncommitted(this, error);
		if (fault.reason === 'SESSION_SUPERSEDED') {
			this.close(CloseCode.SUPERSEDED, fault.message);
			return false;
		}
		if (TRANSIENT.has(fault.code)) return true;
		this.close(CloseCode.OVERLOADED, `facts were not committed: ${fault.message}`, 5000);
		return false;
	}

	#pump(): void {
		if (this.#factAck !== undefined && this.#writable && this.#state === 'open') {
			const seq = this.#factAck;
			this.#factAck = undefined;
			this.#send({ case: 'factAck', value: seq });
		}
		if (this.#leaseAck !== undefined && this.#writable && this.#state === 'open') {
			const ack = this.#leaseAck;
			this.#leaseAck = undefined;
			this.#writable = this.#stream.send(ack);
		}
		while (this.#writable && this.#state === 'open') {
			const command = this.commands.take();
			if (command === undefined) return;
			this.#send({ case: 'command', value: command });
		}
	}

	#send(message: Out): void {
		this.#writable = this.#stream.send(create(ConnectResponseSchema, { message }));
	}

	#protocol(message: string): void {
		this.close(CloseCode.PROTOCOL, message);
	}

	#drop(): void {
		this.#declined = [];
		this.#facts = [];
		this.#factBytes = 0;
	}
}
