import { timingSafeEqual } from 'node:crypto';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { hex, type Rng } from '../../../kit/ids.ts';
import { ENROLL_NONCE_BYTES } from '../../../pki/keys/enroll-transcript.ts';
import type { HardwareFacts } from '../../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';

/**
 * Enrollments between Begin and Complete, in memory: each belongs to the TLS connection that it began on, may be taken
 * once, and ends after 30 s. Only holders of a valid proof get one, so that strangers can't fill the table. After a
 * crash of the control plane they are gone, and the agent begins again with the same key.
 */
export interface Challenge {
	readonly id: string;
	/** RFC 9266 channel binding of the connection that Begin came on. */
	readonly exporter: Uint8Array;
	readonly nonce: Uint8Array;
	/** SPKI of the key that signed Begin and must sign Complete. */
	readonly proofKey: Uint8Array;
	readonly csrDer: Uint8Array;
	/** Hex. */
	readonly spkiSha256: string;
	readonly claim: TokenClaim | RecoveryClaim;
	readonly facts: HardwareFacts;
	readonly agentVersion: string;
}

export interface TokenClaim {
	readonly kind: 'token';
	readonly tokenId: string;
}

export interface RecoveryClaim {
	readonly kind: 'recovery';
	readonly nodeId: string;
	readonly generation: number;
	/** Of the certificate that the join state was issued with. */
	readonly spkiSha256: string;
}

const TTL_MS = 30_000;
const OPEN_MAX = 1024;

export class Challenges {
	readonly #clock: Clock;
	readonly #rng: Rng;
	/** In order of expiry, because all live equally long. */
	readonly #open = new Map<string, { readonly challenge: Challenge; readonly untilMs: number }>();

	constructor(clock: Clock, rng: Rng) {
		this.#clock = clock;
		this.#rng = rng;
	}

	open(fields: Omit<Challenge, 'id' | 'nonce'>): Challenge {
		const nowMs = this.#clock.monotonic();
		for (const [id, { untilMs }] of this.#open) {
			if (untilMs > nowMs) break;
			this.#open.delete(id);
		}
		if (this.#open.size >= OPEN_MAX) {
			throw new GpuaasError({
				code: 'RESOURCE_EXHAUSTED',
				reason: 'RATE_LIMITED',
				message: `${OPEN_MAX} enrollments are under way; try again in ${TTL_MS / 1000} s`,
				metadata: { retry_after_ms: String(TTL_MS) },
			});
		}
		const challenge = { ...fields, id: hex(this.#rng.bytes(16)), nonce: this.#rng.bytes(ENROLL_NONCE_BYTES) };
		this.#open.set(challenge.id, { challenge, untilMs: nowMs + TTL_MS });
		return challenge;
	}

	/** Throws CHALLENGE_UNKNOWN or CHANNEL_MISMATCH; either way it is gone. */
	take(id: string, exporter: Uint8Array): Challenge {
		const found = this.#open.get(id);
		this.#open.delete(id);
		if (found === undefined || found.untilMs <= this.#clock.monotonic()) {
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'CHALLENGE_UNKNOWN',
				message: `no such enrollment is under way: it was completed, took longer than ${TTL_MS / 1000} s, or the control plane restarted; begin again with the same key`,
			});
		}
		if (!timingSafeEqual(found.challenge.exporter, exporter)) throw channelMismatch();
		return found.challenge;
	}
}

export function channelMismatch(): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'CHANNEL_MISMATCH',
		message:
			'the signature does not belong to this TLS connection: a proxy or inspection device between the host and the enrollment listener ends TLS; let the host reach it directly',
	});
}
