import type { Counter, Family, Registry } from '../../../kit/exposition.ts';

const MADE = new WeakMap<Registry, OidcMetrics>();

/** What monitoring sees of the identity providers. Issuers come from the configuration, so the series are bounded. */
export class OidcMetrics {
	readonly #fetches: Family<Counter>;
	readonly #changes: Family<Counter>;
	readonly #tokens: Family<Counter>;

	/** One a registry: families are made once. */
	static of(registry: Registry): OidcMetrics {
		const made = MADE.get(registry) ?? new OidcMetrics(registry);
		MADE.set(registry, made);
		return made;
	}

	private constructor(registry: Registry) {
		this.#fetches = registry.counter({
			name: 'gpuaas_oidc_key_fetches_total',
			help: 'Fetches of the keys of an identity provider.',
			labelNames: ['issuer', 'result'],
		});
		this.#changes = registry.counter({
			name: 'gpuaas_oidc_key_changes_total',
			help: 'Changes of the keys of an identity provider; planned="no" is an alert: no overlap, or an unexpected key.',
			labelNames: ['issuer', 'planned'],
		});
		this.#tokens = registry.counter({
			name: 'gpuaas_oidc_tokens_total',
			help: 'Access tokens that were presented, by result: ok or the reason of the refusal.',
			labelNames: ['result'],
		});
	}

	fetched(issuer: string, result: 'ok' | 'failed'): void {
		this.#fetches.of(issuer, result).inc();
	}

	keysChanged(issuer: string, planned: boolean): void {
		this.#changes.of(issuer, planned ? 'yes' : 'no').inc();
	}

	token(result: string): void {
		this.#tokens.of(result).inc();
	}
}
