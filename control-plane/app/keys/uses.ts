import { type Clock, every, type Timer } from '../../../kit/clock.ts';
import { messageOf } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { CredentialUseRow } from '../../store/port/api-keys.ts';
import type { Store } from '../../store/port/store.ts';

/** At most one write a key in this time, never in a request, and no part of the audit log. */
const PERIOD_MS = 60_000;
/** Keys in use between two writes; past it the oldest news are written at once. */
const PENDING_MAX = 10_000;

export interface KeyUsesOptions {
	readonly store: Store;
	readonly clock: Clock;
	readonly log: Logger;
}

/** When each key was last used and from where: collected in memory, written late. Losing some costs only freshness. */
export class KeyUses implements AsyncDisposable {
	readonly #options: KeyUsesOptions;
	readonly #timer: Timer;
	#pending = new Map<string, CredentialUseRow>();

	constructor(options: KeyUsesOptions) {
		this.#options = options;
		this.#timer = every(
			options.clock,
			PERIOD_MS,
			() => void this.flush(),
			() => {},
		);
	}

	seen(credentialId: string, peer: string): void {
		this.#pending.set(credentialId, { credentialId, usedAtMs: this.#options.clock.now(), peer });
		if (this.#pending.size >= PENDING_MAX) void this.flush();
	}

	/** Never rejects. */
	async flush(): Promise<void> {
		const rows = [...this.#pending.values()];
		this.#pending = new Map();
		if (rows.length === 0) return;
		try {
			await this.#options.store.unit((tx) => tx.apiKeys.recordUses(rows));
		} catch (error) {
			this.#options.log.warn('when keys were last used could not be written', { why: messageOf(error) });
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.flush();
	}
}
