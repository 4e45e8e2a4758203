import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Clock } from '../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { isUuid } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import type { ChannelGrant, ChannelOpen } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { LinkConnection, StreamEnd } from '../control/link-transport.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { Journal } from '../journal/journal.ts';
import type { ChannelOutcome, ChannelStatus, OpenOutcome, OpenRequest, PtyHost } from '../pty-host/pty-host.ts';
import type { DeviceGuard } from '../tasks/device-guard.ts';
import { auditFact } from '../tasks/facts.ts';
import type { Policy } from '../tasks/policy.ts';
import { ChannelStream } from './channel-stream.ts';
import { judgeProgram, type ProgramPlatform, type ProgramVerdict } from './program.ts';
import { verifyGrant } from './verify-grant.ts';

/**
 * The channels of this node: shells, commands, copies, forwards. What runs is in the pty host; here each living channel
 * has a stream to the control plane whenever there is a connection, and goes on by offset when a connection takes the
 * place of another (renewal, restart of either side). Every opening, refusal and end is a fact in the journal, with the
 * person whom the grant names. Composed by run.ts.
 */
export interface TerminalsDeps {
	readonly clock: Clock;
	readonly log: Logger;
	readonly identity: Pick<AgentIdentity, 'nodeId' | 'generation' | 'trustDomain' | 'bundle'>;
	readonly journal: Pick<Journal, 'appendFacts' | 'hasGrant' | 'takeGrant' | 'transaction'>;
	readonly policy: Policy;
	readonly devices: DeviceGuard;
	readonly platform: ProgramPlatform;
	/** Tells the control plane which channels there are; false when it can't be told now. */
	readonly sendInventory: (ids: readonly string[]) => boolean;
}

/** A stream that the gateway refused is opened again after this: nobody waits for it in a hurry. */
const RETRY_MS = 1000;
/** An order that comes while the pty host is replaced waits so long for the next one: less than whoever asked waits. */
const NEXT_HOST_MS = 10_000;
/** A journal on a full disk is asked again after this. */
const RECORD_RETRY_MS = 10_000;
/** From the end of a grant on, kept so that it opens nothing again: beyond what any clock may be off. */
const GRANT_KEEP_MS = 3_600_000;
/** Past it, nobody is told: the control plane gives up an order that is not answered. */
const DOUBTFUL_MAX = 4096;

type Refusal = Pick<ChannelOutcome, 'reason' | 'message'>;

interface Channel {
	readonly id: string;
	/** Undefined for one that was refused. */
	status: ChannelStatus;
	isStarted: boolean;
	stream: ChannelStream | undefined;
}

export class Terminals {
	readonly #deps: TerminalsDeps;
	readonly #channels = new Map<string, Channel>();
	/** Their programs are being started: not channels yet. */
	readonly #starting = new Set<string>();
	/** Refused before the pty host said what it has: what it has was opened before and lives. */
	readonly #doubtful = new Map<string, Refusal>();
	/** Orders that wait for a host. */
	readonly #hostless = new Set<() => void>();
	/** They have ended, and the journal takes no record of it now. */
	readonly #unrecorded = new Set<string>();
	/** Waits for the last one to be forgotten. */
	#onNone: (() => void) | undefined;
	#connection: LinkConnection | undefined;
	#host: PtyHost | undefined;

	constructor(deps: TerminalsDeps) {
		this.#deps = deps;
	}

	/** The connection to use from now on; streams on an older one end with it. */
	setConnection(connection: LinkConnection | undefined): void {
		this.#connection = connection;
		if (connection === undefined) return;
		for (const channel of this.#channels.values()) if (!channel.isStarted) this.#openStream(channel);
		void this.#goOn(connection);
	}

	/** Offsets have moved since the channels were listed: a control plane that knows nothing yet believes the first word. */
	async #goOn(connection: LinkConnection): Promise<void> {
		const host = this.#host;
		// What is started meanwhile has its stream.
		const channels = [...this.#channels.values()].filter(({ isStarted }) => isStarted);
		const list = await host?.list().catch(() => undefined);
		// Without a host, or with another one by now, the next that is attached goes on; so does another connection.
		if (list === undefined || this.#host !== host || this.#connection !== connection) return;
		for (const channel of channels) {
			if (this.#channels.get(channel.id) !== channel) continue;
			look(channel, list);
			this.#openStream(channel);
		}
		this.#tellInventory();
	}

	/** After (re)connecting to the pty host: what it has is what there is. */
	async attachHost(host: PtyHost): Promise<void> {
		const list = await host.list();
		this.#host = host;
		this.#deps.devices.add(host, host.devices);
		for (const status of list) {
			const known = this.#channels.get(status.id);
			if (known !== undefined) {
				known.status = status;
				known.isStarted = true;
			} else this.#channels.set(status.id, { id: status.id, status, isStarted: true, stream: undefined });
		}
		const there = new Set(list.map(({ id }) => id));
		for (const channel of this.#channels.values()) {
			if (!there.has(channel.id)) lose(channel);
			this.#openStream(channel);
		}
		for (const [id, outcome] of this.#doubtful) if (!this.#isKnown(id)) this.#refused(id, outcome);
		this.#doubtful.clear();
		this.#tellInventory();
		for (const goOn of [...this.#hostless]) goOn();
	}

	detachHost(host: PtyHost): void {
		this.#deps.devices.remove(host);
		if (this.#host === host) this.#host = undefined;
	}

	/** Ends all of them, and waits until the control plane has heard it: whoever sits in one is told why. */
	async endAll({ reason, message }: Refusal, graceMs: number): Promise<void> {
		const host = this.#host;
		const ids = [...this.#channels.keys()];
		if (host === undefined || ids.length === 0) return;
		const toldMs = this.#connection === undefined ? 0 : graceMs;
		await new Promise<void>((resolve) => {
			const goOn = () => {
				timer.cancel();
				this.#onNone = undefined;
				resolve();
			};
			const timer = this.#deps.clock.setTimer(goOn, toldMs);
			this.#onNone = goOn;
			// What can't be ended so is ended with its host.
			for (const id of ids) void host.end(id, reason, message).catch(() => {});
		});
	}

	/** An order of the control plane. Comes again when it wasn't acknowledged; doing it twice changes nothing. */
	open({ grant: envelope }: ChannelOpen): void {
		const { identity, clock, journal, policy, platform } = this.#deps;
		const { nodeId, generation, trustDomain } = identity;
		const { taskSigners } = identity.bundle();
		const verdict = verifyGrant(envelope, { nodeId, generation, trustDomain, taskSigners, nowMs: clock.now() });
		if (verdict.kind === 'refused') {
			this.#deps.log.warn('a grant was refused', { channel: verdict.channelId, reason: verdict.reason });
			const { channelId, reason } = verdict;
			this.#noteRefusal(channelId, () => this.#audit('', 'terminals.refuse', { channel: channelId, reason }));
			// An id that nothing proves must not take the place of a channel that is there, or about to be.
			if (isUuid(channelId) && !this.#isKnown(channelId)) this.#refusedOrThere(channelId, verdict);
			return;
		}
		const { grant } = verdict;
		const { channelId } = grant;
		if (this.#isKnown(channelId)) return;
		const judged = judgeProgram(policy, grant.spec ?? missingSpec(), platform, grant.forwardNever);
		let isTaken: boolean;
		try {
			// Asked before anything is written: what lives is told from what is new also when nothing more can be written.
			isTaken = !journal.hasGrant(channelId) && this.#take(grant, judged);
		} catch (error) {
			// Nothing happens that isn't in the journal.
			this.#deps.log.warn('a terminal was not opened', { channel: channelId, error });
			this.#refusedOrThere(channelId, GpuaasError.from(error));
			return;
		}
		if (!isTaken) {
			this.#noteRefusal(channelId, () => this.#auditGrant(grant, 'terminals.refuse', { reason: REPLAYED.reason }));
			this.#refusedOrThere(channelId, REPLAYED);
		} else if (judged.kind === 'refused') this.#refused(channelId, judged);
		else void this.#start(grant, { id: channelId, ...judged.program });
	}

	/** One commit: the grant opens nothing again, whatever becomes of this agent, and nobody gets in without a trace. */
	#take(grant: ChannelGrant, judged: ProgramVerdict): boolean {
		const { journal, clock } = this.#deps;
		const nowMs = clock.now();
		const untilMs = grant.notAfter === undefined ? nowMs : timestampMs(grant.notAfter);
		return journal.transaction(() => {
			const holder = grant.assignment?.organization ?? '';
			const keepUntilMs = Math.max(nowMs, untilMs) + GRANT_KEEP_MS;
			const { channelId: id, createdBy: person } = grant;
			if (!journal.takeGrant({ id, holder, person, keepUntilMs }, nowMs)) return false;
			if (judged.kind === 'refused') this.#auditGrant(grant, 'terminals.refuse', { reason: judged.reason });
			else this.#auditGrant(grant, 'terminals.open', { user: judged.program.user });
			return true;
		});
	}

	/** Nothing is opened, so a journal that takes nothing more is no reason to leave the order unanswered. */
	#noteRefusal(channel: string, audit: () => void): void {
		try {
			audit();
		} catch (error) {
			this.#deps.log.warn('the refusal of an order was not recorded', { channel, error });
		}
	}

	/** What it opened before may still live, and only the pty host knows. */
	#refusedOrThere(id: string, outcome: Refusal): void {
		if (this.#host !== undefined) this.#refused(id, outcome);
		else if (this.#doubtful.size < DOUBTFUL_MAX) this.#doubtful.set(id, outcome);
	}

	async #start(grant: ChannelGrant, request: OpenRequest): Promise<void> {
		const { id, user, tty } = request;
		this.#starting.add(id);
		try {
			const host = this.#host ?? (await this.#nextHost());
			if (host === undefined) throw unavailable();
			const outcome = await this.#openOn(host, grant, request);
			if (outcome.kind === 'REFUSED') {
				this.#noteRefusal(id, () => this.#auditGrant(grant, 'terminals.refuse', { reason: outcome.reason }));
				this.#refused(id, outcome);
				return;
			}
			const offsets = { stdin: 0, stdout: 0, stderr: 0 };
			const size = tty === undefined ? {} : { size: tty };
			const status = { id, user, tty: tty !== undefined, ...size, offsets };
			const channel: Channel = { id, status, isStarted: true, stream: undefined };
			this.#channels.set(id, channel);
			this.#openStream(channel);
		} catch (error) {
			this.#deps.log.warn('a terminal was not opened', { channel: id, error });
			this.#refused(id, { reason: 'HOST_DIED', message: `the pty host of the node failed: ${messageOf(error)}` });
		} finally {
			this.#starting.delete(id);
		}
	}

	/** Undefined when none comes in time. */
	async #nextHost(): Promise<PtyHost | undefined> {
		await new Promise<void>((resolve) => {
			const goOn = () => {
				timer.cancel();
				this.#hostless.delete(goOn);
				resolve();
			};
			const timer = this.#deps.clock.setTimer(goOn, NEXT_HOST_MS);
			this.#hostless.add(goOn);
		});
		return this.#host;
	}

	async #openOn(host: PtyHost, grant: ChannelGrant, request: OpenRequest): Promise<OpenOutcome> {
		const there = [...this.#channels.values()].filter(({ isStarted }) => isStarted).length;
		const assignment = grant.assignment?.assignmentId ?? '';
		const others = `${there} terminals, copies or forwards`;
		const devices = this.#deps.devices.judge(assignment, request.user, host.devices, others);
		if (devices.kind === 'refused') return { ...devices, kind: 'REFUSED' };
		const { confine } = devices;
		return await host.open(confine === undefined ? request : { ...request, confine });
	}

	#refused(id: string, outcome: Refusal): void {
		const { reason, message } = outcome;
		const offsets = { stdin: 0, stdout: 0, stderr: 0 };
		const status: ChannelStatus = { id, user: '', tty: false, offsets, outcome: { reason, message } };
		const channel: Channel = { id, status, isStarted: false, stream: undefined };
		this.#channels.set(id, channel);
		this.#openStream(channel);
	}

	#openStream(channel: Channel): void {
		const connection = this.#connection;
		const isThere = channel.isStarted && channel.status.outcome !== LOST;
		const host = isThere ? this.#host : undefined;
		// Without the host there is nothing to say yet: the next one knows how it ended.
		if (connection === undefined || (isThere && host === undefined)) return;
		const former = channel.stream;
		const stream: ChannelStream = new ChannelStream({
			connection,
			generation: this.#deps.identity.generation,
			status: channel.status,
			host,
			onResized: (size) => {
				channel.status = { ...channel.status, size };
			},
			onForget: () => this.#forget(channel),
			onClosed: (end) => this.#streamClosed(channel, stream, connection, end),
		});
		channel.stream = stream;
		former?.cancel();
	}

	#streamClosed(channel: Channel, stream: ChannelStream, connection: LinkConnection, end: StreamEnd): void {
		if (channel.stream !== stream) return;
		channel.stream = undefined;
		if (!this.#channels.has(channel.id)) return;
		if (GONE.has(end.reason)) {
			// Nobody may reach it any more, and nobody will: it must not stay open.
			void this.#host?.end(channel.id, end.reason, end.message).catch(() => {});
			this.#forget(channel);
			return;
		}
		// With the connection itself all of its streams end, and the link says why.
		if (this.#connection !== connection) return;
		const { code, reason, message } = end;
		this.#deps.log.warn('the stream of a channel ended; it is opened again', {
			channel: channel.id,
			code,
			reason,
			message,
		});
		this.#deps.clock.setTimer(
			() => {
				const isStill = this.#channels.get(channel.id) === channel && channel.stream === undefined;
				if (isStill) void this.#refresh(channel);
			},
			Math.max(RETRY_MS, end.retryAfterMs),
		);
	}

	/** Offsets have moved since the channel was listed. */
	async #refresh(channel: Channel): Promise<void> {
		try {
			const list = await this.#host?.list();
			if (list !== undefined) look(channel, list);
			if (channel.stream === undefined) this.#openStream(channel);
		} catch {
			// The next host is attached soon.
		}
	}

	/**
	 * Called by the transport, where nobody catches. An end that can't be recorded now is not forgotten before it is: the
	 * channel keeps its place here and in the pty host.
	 */
	#forget(channel: Channel): void {
		if (this.#unrecorded.has(channel.id)) return;
		if (channel.isStarted && !this.#recordEnd(channel.id)) {
			this.#unrecorded.add(channel.id);
			this.#deps.clock.setTimer(() => {
				this.#unrecorded.delete(channel.id);
				if (this.#channels.get(channel.id) === channel) this.#forget(channel);
			}, RECORD_RETRY_MS);
			return;
		}
		this.#channels.delete(channel.id);
		if (channel.isStarted) void this.#host?.forget(channel.id).catch(() => {});
		if (this.#channels.size === 0) this.#onNone?.();
	}

	#recordEnd(channel: string): boolean {
		try {
			this.#audit('', 'terminals.end', { channel });
			return true;
		} catch (error) {
			this.#deps.log.warn('the end of a terminal was not recorded yet', { channel, error });
			return false;
		}
	}

	#tellInventory(): void {
		if (this.#host === undefined || this.#connection === undefined) return;
		this.#deps.sendInventory([...this.#channels.keys()]);
	}

	#isKnown(id: string): boolean {
		return this.#starting.has(id) || this.#channels.has(id);
	}

	#auditGrant(grant: ChannelGrant, action: string, more: Readonly<Record<string, string>>): void {
		const { channelId, createdBy, createdByName, correlationId, spec } = grant;
		const kind = spec?.kind.case ?? '';
		this.#audit(correlationId, action, { channel: channelId, by: createdBy, name: createdByName, kind, ...more });
	}

	#audit(correlationId: string, action: string, detail: Readonly<Record<string, string>>): void {
		const context = { nowMs: this.#deps.clock.now(), correlationId };
		this.#deps.journal.appendFacts([auditFact(context, action, JSON.stringify(detail))]);
	}
}

/** The control plane knows no such channel, or has ended it. */
const GONE: ReadonlySet<string> = new Set(['TERMINAL_NOT_FOUND', 'TERMINAL_ENDED']);

const LOST: ChannelOutcome = {
	reason: 'TERMINAL_LOST',
	message: 'the pty host of the node has no such terminal any more',
};

function look(channel: Channel, list: readonly ChannelStatus[]): void {
	const status = list.find(({ id }) => id === channel.id);
	if (status === undefined) lose(channel);
	else channel.status = status;
}

/** The host doesn't have it, and nobody else can say how it ended. */
function lose(channel: Channel): void {
	const { status } = channel;
	if (channel.isStarted && status.outcome === undefined) channel.status = { ...status, outcome: LOST };
}

const REPLAYED = {
	reason: 'ENVELOPE_REPLAYED',
	message: 'this order was carried out before, and each is good for one time; open another',
} as const;

function unavailable(): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: 'none is reached now, and the log of the agent says why',
	});
}

function missingSpec(): never {
	throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'ENVELOPE_MALFORMED', message: 'a grant has a spec' });
}
