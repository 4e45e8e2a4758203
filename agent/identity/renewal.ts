import { type Clock, sleep } from '../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { Backoff } from '../../kit/retry.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import type { SyncSigner } from '../../pki/keys/signer.ts';
import { decodeBundle } from '../../pki/trust/bundle.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import type { AgentIdentity } from './identity.ts';
import { checkChain } from './issued.ts';

/**
 * Keeps this host's certificate young: asks over the link at 50 % +- 10 % of its life, again after 1 s to 5 min, and
 * when it ran out all the same recovers over the enrollment listener. TLS only says "failed to connect", so the agent
 * decides by itself: from its own NotAfter, the control plane's time, and what a renewal was last refused with.
 */
export interface RenewalOptions {
	readonly identity: AgentIdentity;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	/** `AgentLinkService.RenewCertificate` over the live link; rejects while there is none. */
	readonly renew: (csrDer: Uint8Array, joinState: string) => Promise<RenewedCertificate>;
	/** agent/identity/enroll.ts `recover`. */
	readonly recover: () => Promise<{ readonly serverTimeMs: number }>;
	/** Default: a new P-256 key. The simulation has keys that sign alike in every run. */
	readonly makeKey?: () => { readonly privateKeyPem: string; readonly signer: SyncSigner };
}

export interface RenewedCertificate {
	readonly chain: readonly Uint8Array[];
	readonly bundle: Uint8Array;
	readonly joinState: string;
	readonly serverTimeMs: number;
}

/** For `identityStatus`. */
export interface RenewalFacts {
	/** Control plane's clock minus this host's; null before the first answer. */
	readonly clockOffsetMs: number | null;
	readonly isRecovering: boolean;
	/** Why the last try failed; empty after a success. */
	readonly lastError: string;
	readonly nextTryMs: number;
}

const RETRY = { baseMs: 1000, maxMs: 300_000, floorMs: 200 } as const;
/** Wakes at least this often, so that a clock that jumped or a host that slept is noticed. */
const LOOK_MS = 60_000;
/** A renewal that was refused with these will be refused again, and a recovery won't. */
const RECOVERABLE: ReadonlySet<string> = new Set(['CERTIFICATE_EXPIRED', 'CERTIFICATE_ISSUER_NOT_ACCEPTED']);

export class Renewal {
	readonly #options: RenewalOptions;
	readonly #backoff: Backoff;
	/** -0.1 to +0.1, one draw a certificate, so that a fleet that was enrolled at once doesn't renew at once. */
	#jitter = { serial: '', fraction: 0 };
	#clockOffsetMs: number | null = null;
	#isRecovering = false;
	#mustRecover = false;
	#lastError = '';
	#asked = false;
	#wake = new AbortController();
	#nextTryMs = 0;
	#retryAfterMs = 0;

	constructor(options: RenewalOptions) {
		this.#options = options;
		this.#backoff = new Backoff(RETRY, options.rng);
	}

	/** Ends with `signal`; never rejects. */
	async run(signal: AbortSignal): Promise<void> {
		while (!signal.aborted) {
			const { clock } = this.#options;
			const dueMs = this.#asked ? clock.now() : this.#dueMs();
			if (clock.now() < dueMs) {
				this.#nextTryMs = dueMs;
				await this.#pause(Math.min(dueMs - clock.now(), LOOK_MS), signal);
				continue;
			}
			this.#asked = false;
			if (await this.#try()) continue;
			const waitMs = this.#backoff.nextMs(this.#retryAfterMs);
			this.#nextTryMs = clock.now() + waitMs;
			this.#asked = true;
			await this.#pause(waitMs, signal);
		}
	}

	/** The control plane asks for it (CA rotation), or the operator. */
	renewNow(reason: string): void {
		this.#options.log.info('certificate renewal asked for', { reason });
		this.#asked = true;
		this.#wake.abort();
	}

	/** Every Welcome and LeaseAck carries it. */
	noteServerTime(serverTimeMs: number): void {
		this.#clockOffsetMs = serverTimeMs - this.#options.clock.now();
	}

	facts(): RenewalFacts {
		return {
			clockOffsetMs: this.#clockOffsetMs,
			isRecovering: this.#isRecovering,
			lastError: this.#lastError,
			nextTryMs: this.#nextTryMs,
		};
	}

	/** On this host's clock. */
	#dueMs(): number {
		const { serial, notBeforeMs, notAfterMs } = this.#options.identity.credential();
		if (this.#jitter.serial !== serial) {
			this.#jitter = { serial, fraction: (this.#options.rng.float() * 2 - 1) * 0.1 };
		}
		const atMs = notBeforeMs + (notAfterMs - notBeforeMs) * (0.5 + this.#jitter.fraction);
		return atMs - (this.#clockOffsetMs ?? 0);
	}

	#isExpired(): boolean {
		const nowMs = this.#options.clock.now() + (this.#clockOffsetMs ?? 0);
		return nowMs >= this.#options.identity.credential().notAfterMs;
	}

	async #try(): Promise<boolean> {
		this.#isRecovering = this.#mustRecover || this.#isExpired();
		try {
			await (this.#isRecovering ? this.#recover() : this.#renew());
		} catch (error) {
			this.#failed(error);
			return false;
		}
		this.#isRecovering = false;
		this.#mustRecover = false;
		this.#lastError = '';
		this.#retryAfterMs = 0;
		this.#backoff.reset();
		return true;
	}

	async #recover(): Promise<void> {
		const { serverTimeMs } = await this.#options.recover();
		this.noteServerTime(serverTimeMs);
	}

	async #renew(): Promise<void> {
		const { identity, renew, log, makeKey } = this.#options;
		const key = (makeKey ?? generateNodeKey)();
		const renewed = await renew(createCsr(key.signer), identity.joinState());
		this.noteServerTime(renewed.serverTimeMs);
		const { trustDomain, nodeId } = identity;
		const issued = { nodeId, chain: renewed.chain };
		checkChain(issued, decodeBundle(renewed.bundle), { trustDomain, keyId: key.signer.keyId });
		identity.storeBundle(renewed.bundle);
		identity.storeRenewal({ chain: renewed.chain, keyPem: key.privateKeyPem, joinState: renewed.joinState });
		log.info('certificate renewed', { serial: identity.credential().serial });
	}

	#failed(error: unknown): void {
		const { log } = this.#options;
		this.#lastError = messageOf(error);
		this.#retryAfterMs = 0;
		if (error instanceof GpuaasError) {
			if (RECOVERABLE.has(error.reason)) this.#mustRecover = true;
			const { retry_after_ms: retryAfterMs, server_time_ms: serverTimeMs } = error.metadata;
			if (retryAfterMs !== undefined) this.#retryAfterMs = Number(retryAfterMs) || 0;
			// Refused because the certificate is still valid: this host's clock is the wrong one.
			if (error.reason === 'CLOCK_SKEW' && serverTimeMs !== undefined) {
				this.noteServerTime(Number(serverTimeMs));
				this.#mustRecover = false;
			}
		}
		log.warn(this.#isRecovering ? 'recovery failed' : 'certificate renewal failed', { error });
	}

	async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
		await sleep(this.#options.clock, delayMs, AbortSignal.any([signal, this.#wake.signal]));
		if (this.#wake.signal.aborted) this.#wake = new AbortController();
	}
}
