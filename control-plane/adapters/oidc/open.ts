import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Registry } from '../../../kit/exposition.ts';
import type { Logger } from '../../../kit/log.ts';
import type { EdgeVerifier } from '../../app/login/edge-gate.ts';
import { type EdgeKind, type EdgeRules, JwtEdgeVerifier } from './edge-verifier.ts';
import type { Fetch } from './fetch-json.ts';
import { COOLDOWN_MS, KeySet } from './key-set.ts';
import { LogoutTokens } from './logout-token.ts';
import { OidcMetrics } from './metrics.ts';
import type { TokenRules } from './rules.ts';
import { OidcVerifier } from './verifier.ts';

export interface OidcSettings extends Omit<TokenRules, 'issuer'> {
	readonly issuers: readonly string[];
	readonly expectedKeyIds: readonly string[];
}

/** What the configured providers give; their keys are fetched when the first token comes. */
export interface OpenedOidc {
	readonly verifier: OidcVerifier;
	/** Of logout tokens that are meant for this client. */
	logoutTokens(clientId: string): LogoutTokens;
}

export function openOidc(
	settings: OidcSettings,
	deps: {
		readonly clock: Clock;
		readonly log: Logger;
		readonly registry: Registry;
		readonly fetch?: Fetch;
		readonly cooldownMs?: number;
	},
): OpenedOidc {
	const { clock, log, registry, fetch = globalThis.fetch, cooldownMs = COOLDOWN_MS } = deps;
	const metrics = OidcMetrics.of(registry);
	const { issuers, expectedKeyIds, ...rules } = settings;
	const providers = issuers.map((issuer) => ({
		rules: { ...rules, issuer },
		keys: new KeySet({ issuer, clock, log, fetch, metrics, expectedKeyIds, cooldownMs }),
	}));
	return {
		verifier: new OidcVerifier({ providers, clock, metrics }),
		logoutTokens: (clientId) => new LogoutTokens(providers, clientId, clock),
	};
}

export interface EdgeSettings extends Omit<EdgeRules, 'kind'> {
	/** `none`: no proxy; its headers are then taken off every request. */
	readonly kind: EdgeKind | 'none';
	readonly jwksUrl: string;
}

export function openEdgeVerifier(
	settings: EdgeSettings,
	deps: { readonly clock: Clock; readonly log: Logger; readonly registry: Registry; readonly fetch?: Fetch },
): EdgeVerifier | undefined {
	const { kind, issuer, audience, jwksUrl } = settings;
	if (kind === 'none') return undefined;
	if (issuer === '' || audience === '' || jwksUrl === '') {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'CONFIG_INVALID',
			message:
				'[edge] names a kind but not issuer, audience and jwks_url: without them any proxy would do. Set all three',
		});
	}
	const { clock, log, registry, fetch = globalThis.fetch } = deps;
	const metrics = OidcMetrics.of(registry);
	const keys = new KeySet({ issuer, clock, log, fetch, metrics, expectedKeyIds: [], jwksUri: jwksUrl });
	return new JwtEdgeVerifier({ ...settings, kind }, keys, clock);
}
