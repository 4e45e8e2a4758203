import { type Clock, every, type Timer } from '../../../kit/clock.ts';
import { messageOf } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import { FEATURE_RULES_MAX, FEATURES_CHANGED } from '../../app/features/set.ts';
import type { Bus } from '../../bus/bus.ts';
import type { FeatureRow } from '../../store/port/features.ts';
import type { Store } from '../../store/port/store.ts';

/** Half of the second within which a change counts on every replica, whether or not its hint comes. */
const LOOK_MS = 500;
/** Rules that could not be read anew for this long count no more. */
const STALE_MS = 10_000;

export interface FeatureRulesDeps {
	readonly store: Pick<Store, 'read'>;
	readonly clock: Clock;
	readonly bus: Bus;
	readonly log: Logger;
}

/** The rules of this moment, in memory: a gate is asked often and changed rarely. */
export class FeatureRules implements AsyncDisposable {
	readonly #deps: FeatureRulesDeps;
	readonly #timer: Timer;
	readonly #unsubscribe: () => void;
	#rows: readonly FeatureRow[] | undefined;
	#readAtMs = 0;
	#running: Promise<void> | undefined;
	#isDue = false;

	private constructor(deps: FeatureRulesDeps) {
		this.#deps = deps;
		this.#timer = every(
			deps.clock,
			LOOK_MS,
			() => void this.look(),
			() => {},
		);
		this.#unsubscribe = deps.bus.subscribe(FEATURES_CHANGED, () => void this.look());
	}

	static async open(deps: FeatureRulesDeps): Promise<FeatureRules> {
		const rules = new FeatureRules(deps);
		await rules.look();
		return rules;
	}

	/** Undefined while they can't be read. */
	current(): readonly FeatureRow[] | undefined {
		return this.#deps.clock.monotonic() - this.#readAtMs > STALE_MS ? undefined : this.#rows;
	}

	/** Resolves after a look that began after this call, or joined one; never rejects. */
	look(): Promise<void> {
		this.#isDue = true;
		this.#running ??= this.#run().finally(() => {
			this.#running = undefined;
		});
		return this.#running;
	}

	async #run(): Promise<void> {
		while (this.#isDue) {
			this.#isDue = false;
			const startedAtMs = this.#deps.clock.monotonic();
			try {
				this.#rows = await this.#deps.store.read((tx) => tx.features.all(FEATURE_RULES_MAX));
				this.#readAtMs = startedAtMs;
			} catch (error) {
				this.#deps.log.warn('the rules of features could not be read; the last ones count for ten seconds', {
					why: messageOf(error),
				});
			}
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		this.#unsubscribe();
		await this.#running;
	}
}
