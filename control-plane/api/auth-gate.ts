import type { Addresses } from './interceptors/gate.ts';
import { overloaded } from './interceptors/outcome.ts';
import type { ApiLimits } from './limits.ts';

/**
 * Keeps the login pages, which are for strangers, from taking what the API needs: an address has one rate for both, and the
 * pages under way have a bound of their own, so that a provider that hangs holds up no method.
 */
export class AuthGate {
	readonly #addresses: Addresses;
	readonly #max: number;
	#underWay = 0;

	constructor(addresses: Addresses, { loginsInFlightMax }: Pick<ApiLimits, 'loginsInFlightMax'>) {
		this.#addresses = addresses;
		this.#max = loginsInFlightMax;
	}

	/** Throws RATE_LIMITED. */
	admit(peer: string): void {
		this.#addresses.admit(peer);
	}

	/** A place among the pages under way, until it is disposed; throws RATE_LIMITED. */
	enter(): Disposable {
		if (this.#underWay >= this.#max) throw overloaded();
		this.#underWay += 1;
		return {
			[Symbol.dispose]: () => {
				this.#underWay -= 1;
			},
		};
	}
}
