import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationMs, timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { Timer } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import {
	type CloseCode,
	type Command,
	type ConnectRequest,
	ConnectRequestSchema,
	type ConnectResponse,
	type LeaseAck,
	type Welcome,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { HistoryAnswer, TelemetryFrame } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { KeptAuditHead } from './audit-head.ts';
import type { ControlDeps } from './control-deps.ts';
import { FactSender } from './fact-sender.ts';
import type { ClientStream, LinkConnection, LinkTarget, StreamEnd } from './link-transport.ts';

/**
 * One attempt at one gateway, from dialling to its end: Hello, Welcome, then facts and heartbeats up, commands down.
 * It never connects again: session.ts makes the next one, on a new connection, because a stream that is opened again
 * on a dead connection dies with it.
 */
export interface LinkEnded {
	readonly code: string;
	/** Typed close of the server; undefined when the connection just broke. */
	readonly closeCode: CloseCode | undefined;
	readonly reason: string;
	readonly message: string;
	readonly retryAfterMs: number;
}

type Up = NonNullable<MessageInitShape<typeof ConnectRequestSchema>['message']>;

export class Link {
	readonly target: LinkTarget;
	readonly connection: LinkConnection;
	/** Welcome, or how it ended without one. */
	readonly opened: Promise<
		{ readonly kind: 'ok'; readonly welcome: Welcome } | { readonly kind: 'ended'; readonly ended: LinkEnded }
	>;
	readonly ended: Promise<LinkEnded>;
	readonly #deps: ControlDeps;
	readonly #stream: ClientStream<ConnectRequest>;
	#state: 'opening' | 'open' | 'ended' = 'opening';
	#writable = true;
	#facts: FactSender | undefined;
	#onOpened: (welcome: Welcome) => void = () => {};
	#onEnded: (ended: LinkEnded) => void = () => {};
	#close: LinkEnded | undefined;
	readonly #auditHead: KeptAuditHead;
	#epoch = 0n;
	#leaseTtlMs = 0;
	#heartbeatTimer: Timer | undefined;
	#watchdog: Timer | undefined;
	#handledSeq = 0n;
	/** Commands that are in the journal. */
	#keptSeq = 0n;
	#ackedCommandSeq = 0n;
	#holdsFacts = false;
	#ackDeferred = false;
	/** On the monotonic clock. */
	#lastHeardMs: number;
	/** Server time minus ours when it last told its time. */
	#clockOffsetMs: number | undefined;

	constructor(deps: ControlDeps, target: LinkTarget) {
		this.#deps = deps;
		this.#auditHead = new KeptAuditHead(deps.journal, deps.log);
		this.target = target;
		this.#lastHeardMs = deps.clock.monotonic();
		this.ended = new Promise((resolve) => {
			this.#onEnded = resolve;
		});
		this.opened = Promise.race([
			new Promise<{ kind: 'ok'; welcome: Welcome }>((resolve) => {
				this.#onOpened = (welcome) => resolve({ kind: 'ok', welcome });
			}),
			this.ended.then((ended) => ({ kind: 'ended' as const, ended })),
		]);
		this.connection = deps.transport.open(target);
		this.#stream = this.connection.connect({
			onFrame: (frame) => this.#guarded(() => this.#onFrame(frame)),
			onWritable: () => {
				this.#writable = true;
				this.#pump();
			},
			onClosed: (end) => this.#onClosed(end),
		});
		this.#armWatchdog(deps.limits.welcomeTimeoutMs);
		this.#send({ case: 'hello', value: this.#hello() });
	}

	get isOpen(): boolean {
		return this.#state === 'open';
	}

	get epoch(): bigint {
		return this.#epoch;
	}

	get leaseTtlMs(): number {
		return this.#leaseTtlMs;
	}

	get lastHeardMs(): number {
		return this.#lastHeardMs;
	}

	get clockOffsetMs(): number | undefined {
		return this.#clockOffsetMs;
	}

	/** Facts wait in the journal. */
	pumpFacts(): void {
		this.#pump();
	}

	/** False when it was dropped: not connected, or the stream is behind. */
	telemetry(frame: TelemetryFrame): boolean {
		if (this.#state !== 'open' || !this.#writable) return false;
		this.#send({ case: 'telemetry', value: frame });
		return true;
	}

	/** What a query of this session asked for; nobody waits for it on another. */
	historyAnswer(answer: HistoryAnswer): void {
		if (this.#state === 'open' && this.#writable) this.#send({ case: 'historyAnswer', value: answer });
	}

	/** False when it was not told: not connected. */
	channels(channelIds: readonly string[]): boolean {
		if (this.#state !== 'open') return false;
		this.#send({ case: 'channels', value: { channelIds: [...channelIds] } });
		return true;
	}

	/** Leaves on purpose. */
	goodbye(reason: string): void {
		if (this.#state !== 'open') return;
		this.#send({ case: 'goodbye', value: { reason } });
		this.#stream.end();
	}

	/** Ends it now. */
	end(code: string, message: string): void {
		this.#finish({ code, closeCode: undefined, reason: '', message, retryAfterMs: 0 });
	}

	#hello(): Extract<Up, { case: 'hello' }>['value'] {
		const { identity, journal, commands, host, clock } = this.#deps;
		return {
			nodeId: identity.nodeId,
			generation: identity.generation,
			bootId: host.bootId,
			agentVersion: host.agentVersion,
			bundleSeq: BigInt(identity.bundle().seq),
			capabilities: [...host.capabilities],
			factSeq: journal.lastFactSeq(),
			// Numbers of commands live as long as a session: see the server's app/sessions/command-stream.ts.
			commandSeq: 0n,
			commandStream: '',
			instanceId: host.instanceId,
			hostname: host.hostname,
			renewalSeq: BigInt(identity.renewalSeq()),
			auditHead: this.#auditHead.note(),
			agentTime: timestampFromMs(clock.now()),
			attempts: commands.attempts().map(({ taskId, attempt }) => ({ taskId, attempt })),
		};
	}

	#onFrame({ message }: ConnectResponse): void {
		if (this.#state === 'ended') return;
		this.#lastHeardMs = this.#deps.clock.monotonic();
		if (message.case === 'close') {
			const { code, message: text, retryAfter } = message.value;
			const retryAfterMs = retryAfter === undefined ? 0 : durationMs(retryAfter);
			this.#close = { code: 'CLOSED', closeCode: code, reason: '', message: text, retryAfterMs };
		} else if (this.#state === 'opening') {
			if (message.case === 'welcome') this.#welcomed(message.value);
			else this.end('INTERNAL', 'the gateway began without Welcome');
		} else if (message.case === 'factAck') {
			if (this.#facts?.ack(message.value)) this.#pump();
			else this.end('INTERNAL', 'the gateway acknowledged a fact that was never sent');
		} else if (message.case === 'leaseAck') this.#leaseAck(message.value);
		else if (message.case === 'command') this.#command(message.value);
	}

	#welcomed(welcome: Welcome): void {
		this.#state = 'open';
		this.#epoch = welcome.epoch;
		this.#deps.commands.welcomed?.(welcome.fencingSeq);
		this.#facts = new FactSender(this.#deps.journal, this.#stream, welcome.factAck);
		this.#setLease(welcome.leaseTtl === undefined ? 0 : durationMs(welcome.leaseTtl));
		this.#setServerTime(welcome.serverTime === undefined ? undefined : timestampMs(welcome.serverTime));
		if (welcome.bundle.length > 0) this.#storeBundle(welcome.bundle);
		if (welcome.telemetryPlan !== undefined) this.#deps.onTelemetryPlan(welcome.telemetryPlan);
		if (welcome.renewNow) this.#deps.onRenewNow('the issuing authority was rotated');
		this.#onOpened(welcome);
		this.#pump();
	}

	#setLease(leaseTtlMs: number): void {
		this.#leaseTtlMs = Math.max(this.#deps.limits.leaseTtlFloorMs, leaseTtlMs);
		if (this.#heartbeatTimer === undefined) this.#heartbeat();
	}

	#heartbeat(): void {
		const { clock, identity, journal, commands } = this.#deps;
		// Three in a lease, the first at once: the server's record of our bundle and issuer is what CA rotation waits for.
		this.#heartbeatTimer = clock.setTimer(() => this.#heartbeat(), this.#leaseTtlMs / 3);
		if (this.#state !== 'open') return;
		this.#armWatchdog(this.#leaseTtlMs - (clock.monotonic() - this.#lastHeardMs));
		const value = {
			epoch: this.#epoch,
			runningTasks: commands.runningCount(),
			bundleSeq: BigInt(identity.bundle().seq),
			issuerKeyId: this.target.credential.issuerKeyId,
			telemetryDropped: BigInt(this.#deps.telemetryDropped()),
			journalBytes: BigInt(journal.usage().bytes),
		};
		this.#send({ case: 'heartbeat', value });
	}

	/** No answer for a whole lease: the connection is dead, whatever TCP says. */
	#armWatchdog(delayMs: number): void {
		this.#watchdog?.cancel();
		this.#watchdog = this.#deps.clock.setTimer(() => {
			const limitMs = this.#state === 'open' ? this.#leaseTtlMs : this.#deps.limits.welcomeTimeoutMs;
			const silentMs = this.#deps.clock.monotonic() - this.#lastHeardMs;
			if (silentMs < limitMs) this.#armWatchdog(limitMs - silentMs);
			else this.end('DEADLINE_EXCEEDED', `the gateway has been silent for ${Math.round(silentMs / 1000)} s`);
		}, delayMs);
	}

	#leaseAck({ leaseTtl, serverTime, auditHead }: LeaseAck): void {
		if (leaseTtl !== undefined) this.#setLease(durationMs(leaseTtl));
		this.#setServerTime(serverTime === undefined ? undefined : timestampMs(serverTime));
		this.#auditHead.shown(auditHead);
	}

	#setServerTime(serverMs: number | undefined): void {
		if (serverMs !== undefined) this.#clockOffsetMs = serverMs - this.#deps.clock.now();
	}

	#command(command: Command): void {
		if (command.seq <= this.#handledSeq) return;
		try {
			this.#dispatch(command);
		} catch (error) {
			this.#deps.log.error('a command was not handled', { command: command.command.case, error });
			// Not acknowledged: it comes again with the next session.
			this.end('INTERNAL', `a command was not handled: ${messageOf(error)}`);
			return;
		}
		this.#handledSeq = command.seq;
		if (this.#ackDeferred) return;
		this.#ackDeferred = true;
		// One acknowledgement for all commands that arrived together.
		this.#deps.clock.defer(() => {
			this.#ackDeferred = false;
			// Facts of this commit wait for its end, so that the acknowledgement goes with them.
			this.#holdsFacts = true;
			const isKept = this.#commitCommands();
			this.#holdsFacts = false;
			if (!isKept || this.#state !== 'open') return;
			this.#keptSeq = this.#handledSeq;
			this.#pump();
			for (const value of this.#deps.commands.takeDeclined()) this.#send({ case: 'taskDeclined', value });
			const commandAck = this.#takeCommandAck();
			if (this.#state === 'open' && commandAck > 0n) this.#send({ case: 'commandAck', value: commandAck });
		});
	}

	/** What is kept and not acknowledged, once; 0: nothing. */
	#takeCommandAck(): bigint {
		if (this.#keptSeq === this.#ackedCommandSeq) return 0n;
		this.#ackedCommandSeq = this.#keptSeq;
		return this.#keptSeq;
	}

	/** False when they are not durable: they come again with the next session. */
	#commitCommands(): boolean {
		try {
			this.#deps.commands.commit?.();
			return true;
		} catch (error) {
			this.#deps.log.error('commands could not be kept', { error });
			this.end('INTERNAL', `commands could not be kept: ${messageOf(error)}`);
			return false;
		}
	}

	#dispatch(command: Command): void {
		const { command: what } = command;
		if (what.case === 'trustUpdate') this.#storeBundle(what.value.bundle);
		else if (what.case === 'renewNow') this.#deps.onRenewNow(what.value.reason);
		else if (what.case === 'telemetryPlan') this.#deps.onTelemetryPlan(what.value);
		else if (what.case === 'historyQuery') this.#deps.onHistoryQuery?.(what.value);
		else if (what.case === 'probeQuiesce') this.#deps.onProbeQuiesce?.(what.value);
		else this.#deps.commands.handle(command);
	}

	/** One that doesn't follow from ours is refused and named; the link that brought it goes on with the old one. */
	#storeBundle(bytes: Uint8Array): void {
		try {
			this.#deps.identity.storeBundle(bytes);
		} catch (error) {
			this.#deps.log.error('a trust bundle was refused', { gateway: this.target.gateway, error });
		}
	}

	#pump(): void {
		if (this.#state !== 'open' || this.#holdsFacts) return;
		this.#guarded(() =>
			this.#facts?.pump(
				() => this.#writable && this.#state === 'open',
				(takesMore) => {
					this.#writable = takesMore;
				},
				() => this.#takeCommandAck(),
			),
		);
	}

	/** A journal that can't be read or written ends the link: what it holds is sent again over the next. */
	#guarded(work: () => void): void {
		try {
			work();
		} catch (error) {
			this.#deps.log.error('the link failed on this host', { error });
			this.end('INTERNAL', `the link failed on this host: ${messageOf(error)}`);
		}
	}

	#send(message: Up): void {
		this.#writable = this.#stream.send(create(ConnectRequestSchema, { message }));
	}

	#onClosed(end: StreamEnd): void {
		// The frame has the code and the exact wait, the status has the reason.
		this.#finish(this.#close === undefined ? { ...end, closeCode: undefined } : { ...this.#close, reason: end.reason });
	}

	#finish(ended: LinkEnded): void {
		if (this.#state === 'ended') return;
		this.#state = 'ended';
		this.#heartbeatTimer?.cancel();
		this.#watchdog?.cancel();
		this.connection.close();
		this.#onEnded(ended);
	}
}
