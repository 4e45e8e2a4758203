import { durationMs } from '@bufbuild/protobuf/wkt';
import { present } from '../../kit/assert.ts';
import { sleep, type Timer } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { Backoff } from '../../kit/retry.ts';
import {
	CloseCode,
	CloseCodeSchema,
	type RenewCertificateRequest,
	type RenewCertificateResponse,
	type Welcome,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { HistoryAnswer, TelemetryFrame } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { ControlDeps } from './control-deps.ts';
import { Link, type LinkEnded } from './link.ts';
import type { LinkConnection } from './link-transport.ts';

/** For `agent status` and `doctor`. */
export interface ControlState {
	readonly phase: 'stopped' | 'connecting' | 'connected' | 'waiting';
	readonly gateway: string;
	readonly replicaId: string;
	readonly epoch: number;
	readonly leaseTtlMs: number;
	/** Wall clock. */
	readonly connectedAtMs: number | undefined;
	readonly sinceHeardMs: number | undefined;
	/** The server's clock minus ours. */
	readonly clockOffsetMs: number | undefined;
	readonly attempts: number;
	readonly nextAttemptInMs: number | undefined;
	/** Why the newest attempt or link ended; undefined once one is welcomed again. */
	readonly lastEnd: (LinkEnded & { readonly atMs: number }) | undefined;
	readonly unackedFacts: number;
}

const REFUSED_FOR_GOOD: ReadonlySet<CloseCode> = new Set([
	CloseCode.REVOKED,
	CloseCode.LOCKED,
	CloseCode.STALE_GENERATION,
]);

/**
 * Keeps the agent connected: one link at a time, the next after full-jitter backoff, through the gateways in turn.
 * When the certificate or the bundle changed it opens a second connection, moves over once that is welcomed, confirms
 * the credential, and closes the first: nothing is interrupted. Started by the agent's main; read by `agent status`.
 */
export class Control {
	readonly #deps: ControlDeps;
	#backoff: Backoff;
	#backoffMaxMs: number;
	#current: Link | undefined;
	#phase: ControlState['phase'] = 'stopped';
	#attempts = 0;
	#gateway = 0;
	#nextAttemptAtMs: number | undefined;
	#lastEnd: ControlState['lastEnd'];
	#connectedAtMs: number | undefined;
	#replicaId = '';
	/** On the monotonic clock: when a second connection is due. */
	#moveAtMs = Number.POSITIVE_INFINITY;
	#moveTimer: Timer | undefined;
	/** Of the certificate of the newest connection. */
	#dialledSerial = '';
	#wake: () => void = () => {};
	readonly #listeners: ((connection: LinkConnection | undefined) => void)[] = [];

	constructor(deps: ControlDeps) {
		this.#deps = deps;
		this.#backoffMaxMs = deps.limits.backoffMaxMs;
		this.#backoff = new Backoff({ baseMs: deps.limits.backoffBaseMs, maxMs: this.#backoffMaxMs }, deps.rng);
		deps.identity.onChange(() => this.#planMove());
		deps.journal.onFacts(() => this.#current?.pumpFacts());
	}

	/** Runs until `signal` aborts, then says goodbye. Never rejects. */
	async run(signal: AbortSignal): Promise<void> {
		const onAbort = () => this.#wake();
		signal.addEventListener('abort', onAbort, { once: true });
		while (!signal.aborted) {
			const link = this.#current;
			if (link === undefined || this.#isMoveDue()) await this.#reach(signal);
			else await this.#hold(link, signal);
		}
		signal.removeEventListener('abort', onAbort);
		this.#moveTimer?.cancel();
		await this.#leave();
		this.#phase = 'stopped';
	}

	/** The connection in use, for what opens streams of its own; told at once and again at each change. */
	onConnection(listener: (connection: LinkConnection | undefined) => void): void {
		this.#listeners.push(listener);
		listener(this.#current?.connection);
	}

	/** Droppable: false when it was dropped. */
	sendTelemetry(frame: TelemetryFrame): boolean {
		return this.#current?.telemetry(frame) ?? false;
	}

	sendHistoryAnswer(answer: HistoryAnswer): void {
		this.#current?.historyAnswer(answer);
	}

	/** Which channels this host has; false when nobody could be told. */
	sendChannels(channelIds: readonly string[]): boolean {
		return this.#current?.channels(channelIds) ?? false;
	}

	/**
	 * Over the live connection. Rejects UNREACHABLE when there is none, and while a certificate that was renewed waits for
	 * its first use: asked with the one before and the newer join state, the server would see two holders of one identity.
	 */
	renewCertificate(request: RenewCertificateRequest, signal: AbortSignal): Promise<RenewCertificateResponse> {
		const link = this.#current;
		const isInUse = link?.target.credential.serial === this.#deps.identity.credential().serial;
		if (link !== undefined && isInUse) return link.connection.renewCertificate(request, signal);
		const message =
			link === undefined
				? 'no gateway is connected now; try again when one is'
				: 'a renewed certificate waits for its first use; ask when the link has moved to it';
		return Promise.reject(new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message }));
	}

	state(): ControlState {
		const link = this.#current;
		const nowMs = this.#deps.clock.monotonic();
		return {
			phase: this.#phase,
			gateway: link?.target.gateway ?? this.#gatewayInTurn(),
			replicaId: link === undefined ? '' : this.#replicaId,
			epoch: Number(link?.epoch ?? 0n),
			leaseTtlMs: link?.leaseTtlMs ?? 0,
			connectedAtMs: link === undefined ? undefined : this.#connectedAtMs,
			sinceHeardMs: link === undefined ? undefined : nowMs - link.lastHeardMs,
			clockOffsetMs: link?.clockOffsetMs,
			attempts: this.#attempts,
			nextAttemptInMs: this.#nextAttemptAtMs === undefined ? undefined : Math.max(0, this.#nextAttemptAtMs - nowMs),
			lastEnd: this.#lastEnd,
			unackedFacts: this.#deps.journal.usage().unackedFacts,
		};
	}

	/** One attempt at a new link, while the present one (if any) goes on; then the pause if it failed. */
	async #reach(signal: AbortSignal): Promise<void> {
		if (this.#current === undefined) this.#phase = 'connecting';
		this.#attempts += 1;
		let ended: LinkEnded;
		try {
			await this.#deps.prepare(signal);
			if (signal.aborted) return;
			const moveAtMs = this.#moveAtMs;
			const link = this.#dial();
			const abort = () => link.end('CANCELLED', 'the agent stops');
			signal.addEventListener('abort', abort, { once: true });
			const opened = await link.opened.finally(() => signal.removeEventListener('abort', abort));
			if (opened.kind === 'ok') {
				// A change that came while it was dialled wants yet another.
				if (this.#moveAtMs === moveAtMs) this.#moveAtMs = Number.POSITIVE_INFINITY;
				this.#moveTo(link, opened.welcome);
				return;
			}
			ended = opened.ended;
		} catch (error) {
			this.#deps.log.warn('no attempt to connect could be made', { error });
			const { code, reason, message } = GpuaasError.from(error);
			ended = { code, closeCode: undefined, reason, message, retryAfterMs: 0 };
		}
		await this.#pause(ended, signal);
	}

	#dial(): Link {
		const { identity } = this.#deps;
		const credential = identity.credential();
		this.#dialledSerial = credential.serial;
		return new Link(this.#deps, {
			gateway: this.#gatewayInTurn(),
			trustDomain: identity.trustDomain,
			credential,
			bundle: identity.bundle(),
		});
	}

	#moveTo(link: Link, welcome: Welcome): void {
		const { log, clock, limits, rng } = this.#deps;
		const former = this.#current;
		this.#current = link;
		this.#phase = 'connected';
		this.#attempts = 0;
		this.#lastEnd = undefined;
		this.#connectedAtMs = clock.now();
		this.#replicaId = welcome.replicaId;
		const backoffMaxMs = welcome.reconnectMax === undefined ? limits.backoffMaxMs : durationMs(welcome.reconnectMax);
		if (backoffMaxMs !== this.#backoffMaxMs && backoffMaxMs >= limits.backoffBaseMs) {
			this.#backoffMaxMs = backoffMaxMs;
			this.#backoff = new Backoff({ baseMs: limits.backoffBaseMs, maxMs: backoffMaxMs }, rng);
		}
		const connectedAtMs = clock.monotonic();
		void link.ended.then(() => {
			if (clock.monotonic() - connectedAtMs >= limits.stableMs) this.#backoff.reset();
			if (this.#current !== link) return;
			this.#current = undefined;
			this.#tellConnection();
		});
		this.#tellConnection();
		former?.end('OK', 'moved to a new connection');
		this.#confirm(link.target.credential.serial);
		log.info('connected', { gateway: link.target.gateway, epoch: Number(welcome.epoch), moved: former !== undefined });
	}

	/** A disk that takes nothing keeps the older credential beside the one in use, and costs no link. */
	#confirm(serial: string): void {
		try {
			this.#deps.identity.confirmCredential(serial);
		} catch (error) {
			this.#deps.log.error('a credential in use could not be confirmed; the next connection tries again', { error });
		}
	}

	/** Until the link ended, a second one is due, or the agent stops. */
	async #hold(link: Link, signal: AbortSignal): Promise<void> {
		const woken = new Promise<undefined>((resolve) => {
			this.#wake = () => resolve(undefined);
		});
		// One that rang while nobody held a link woke nobody.
		this.#armMove();
		const ended = await Promise.race([link.ended, woken]);
		this.#wake = () => {};
		if (ended === undefined || signal.aborted) return;
		this.#deps.log.warn('disconnected', {
			gateway: link.target.gateway,
			code: ended.closeCode === undefined ? ended.code : closeName(ended.closeCode),
			message: ended.message,
		});
		await this.#pause(ended, signal);
	}

	async #pause(ended: LinkEnded, signal: AbortSignal): Promise<void> {
		const { clock } = this.#deps;
		this.#lastEnd = { ...ended, atMs: clock.now() };
		this.#gateway += 1;
		const delayMs = this.#delayAfter(ended);
		if (this.#current === undefined) this.#phase = 'waiting';
		this.#nextAttemptAtMs = clock.monotonic() + delayMs;
		await this.#rest(delayMs, ended.retryAfterMs > 0, signal);
		this.#nextAttemptAtMs = undefined;
	}

	/** A recovered credential ends it, because what failed was tried with the one before; not what a server asked for. */
	async #rest(delayMs: number, isAskedFor: boolean, signal: AbortSignal): Promise<void> {
		const { clock, identity } = this.#deps;
		const { serial } = identity.credential();
		const rested = Promise.withResolvers<void>();
		const timer = clock.setTimer(rested.resolve, delayMs);
		this.#wake = () => {
			const isNew = !isAskedFor && identity.credential().serial !== serial;
			if (isNew || signal.aborted) rested.resolve();
		};
		if (!signal.aborted) await rested.promise;
		this.#wake = () => {};
		timer.cancel();
	}

	#delayAfter({ closeCode, retryAfterMs }: LinkEnded): number {
		const { limits, rng } = this.#deps;
		const backoffMs = this.#backoff.nextMs(retryAfterMs);
		if (closeCode !== undefined && REFUSED_FOR_GOOD.has(closeCode))
			return Math.max(backoffMs, limits.refusedRetryMs * (0.5 + rng.float()));
		// Somebody else is this node: taking it back at once would only make two agents throw each other out.
		if (closeCode === CloseCode.SUPERSEDED) return Math.max(backoffMs, this.#backoffMaxMs * (0.5 + rng.float()));
		return backoffMs;
	}

	#planMove(): void {
		const { clock, identity, limits, rng } = this.#deps;
		const isRenewed = this.#dialledSerial !== identity.credential().serial;
		// A bundle reaches the whole fleet in one moment, and no connection needs it before it is opened again.
		const delayMs = isRenewed ? 0 : rng.float() * limits.bundleMoveSpreadMs;
		this.#moveAtMs = Math.min(this.#moveAtMs, clock.monotonic() + delayMs);
		this.#armMove();
	}

	#armMove(): void {
		const { clock } = this.#deps;
		this.#moveTimer?.cancel();
		if (!Number.isFinite(this.#moveAtMs)) return;
		this.#moveTimer = clock.setTimer(() => this.#wake(), this.#moveAtMs - clock.monotonic());
	}

	#isMoveDue(): boolean {
		return this.#deps.clock.monotonic() >= this.#moveAtMs;
	}

	#tellConnection(): void {
		for (const listener of this.#listeners) listener(this.#current?.connection);
	}

	#gatewayInTurn(): string {
		const { gateways } = this.#deps.identity;
		return present(gateways[this.#gateway % gateways.length], 'an enrolled agent knows a gateway');
	}

	async #leave(): Promise<void> {
		const link = this.#current;
		if (link === undefined) return;
		link.goodbye('the agent stops');
		await Promise.race([link.ended, sleep(this.#deps.clock, this.#deps.limits.goodbyeMs)]);
		link.end('OK', 'the agent stops');
	}
}

function closeName(code: CloseCode): string {
	return CloseCodeSchema.value[code]?.localName ?? String(code);
}
