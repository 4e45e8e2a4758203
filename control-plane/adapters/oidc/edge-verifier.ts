import { errors, type JWTPayload, jwtVerify } from 'jose';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { EDGE_HEADERS, type EdgeAssertion, type EdgeVerifier, edgeRefused } from '../../app/login/edge-gate.ts';
import type { KeySet } from './key-set.ts';
import { TOKEN_BYTES_MAX } from './rules.ts';

export type EdgeKind = 'pomerium' | 'cloudflare';

export interface EdgeRules {
	readonly kind: EdgeKind;
	/** Pomerium: the host that it serves; Cloudflare: `https://<team>.cloudflareaccess.com`. */
	readonly issuer: string;
	/** Pomerium: our host; Cloudflare: the application's AUD tag. */
	readonly audience: string;
	readonly clockSkewMaxMs: number;
}

/** Both are documented so; a header of the other kind is no assertion here. */
const KINDS = {
	pomerium: { header: EDGE_HEADERS.pomerium, algorithms: ['ES256'], binds: 'subject' },
	cloudflare: { header: EDGE_HEADERS.cloudflare, algorithms: ['RS256'], binds: 'email' },
} as const;

/** Assertions of an access proxy: issuer and audience always, for a library that trusts the first it sees is no check. */
export class JwtEdgeVerifier implements EdgeVerifier {
	readonly header: string;
	readonly binds: 'subject' | 'email';
	readonly #rules: EdgeRules;
	readonly #keys: KeySet;
	readonly #clock: Clock;

	constructor(rules: EdgeRules, keys: KeySet, clock: Clock) {
		this.header = KINDS[rules.kind].header;
		this.binds = KINDS[rules.kind].binds;
		this.#rules = rules;
		this.#keys = keys;
		this.#clock = clock;
	}

	async verify(assertion: string): Promise<EdgeAssertion> {
		if (assertion.length > TOKEN_BYTES_MAX) throw edgeRefused('EDGE_ASSERTION_INVALID', 'its assertion is too large');
		const payload = await this.#payload(assertion);
		const { sub, email } = payload;
		return { subject: sub ?? '', email: typeof email === 'string' ? email.toLowerCase() : '' };
	}

	async #payload(assertion: string): Promise<JWTPayload> {
		try {
			return await this.#verifyWith(assertion, (await this.#keys.current()).find);
		} catch (error) {
			const renewed = error instanceof errors.JWKSNoMatchingKey ? await this.#keys.renewed() : undefined;
			if (renewed === undefined) throw refused(error);
			return await this.#verifyWith(assertion, renewed.find).catch((again: unknown) => {
				throw refused(again);
			});
		}
	}

	async #verifyWith(assertion: string, find: Awaited<ReturnType<KeySet['current']>>['find']): Promise<JWTPayload> {
		const { kind, issuer, audience, clockSkewMaxMs } = this.#rules;
		const { payload } = await jwtVerify(assertion, find, {
			algorithms: [...KINDS[kind].algorithms],
			issuer,
			audience,
			requiredClaims: ['sub', 'exp', 'iat'],
			clockTolerance: clockSkewMaxMs / 1000,
			currentDate: new Date(this.#clock.now()),
		});
		return payload;
	}
}

function refused(error: unknown): GpuaasError {
	if (error instanceof GpuaasError) return error;
	return edgeRefused('EDGE_ASSERTION_INVALID', 'its assertion is not a good one for this control plane', error);
}
