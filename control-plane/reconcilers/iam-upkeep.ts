import { every, type Timer } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { purgeScope } from '../app/scopes/purge.ts';
import type { UseCaseDeps } from '../app/use-case.ts';
import { systemContext } from '../context.ts';

/**
 * What time ends in identity and access: scopes whose grace period is over, and bindings that ended long ago (until
 * then they are shown as ended). Takes no input, is idempotent, does a bounded amount at a time; two replicas at once
 * do the same thing once, because each unit looks again.
 */
export interface IamUpkeepOptions {
	/** Default 60 s. */
	readonly periodMs?: number;
}

/** Ended bindings stay readable for this long. */
const ENDED_SHOWN_MS = 30 * 24 * 3_600_000;
const SCOPES_A_LOOK = 20;
const BINDINGS_A_LOOK = 500;

export class IamUpkeepReconciler implements AsyncDisposable {
	readonly #deps: UseCaseDeps;
	readonly #timer: Timer;
	#running: Promise<void> | undefined;

	constructor(deps: UseCaseDeps, options: IamUpkeepOptions = {}) {
		this.#deps = deps;
		const onError = (error: unknown) =>
			deps.log.error('upkeep of identity and access failed and is tried again', { error });
		const activate = () => {
			this.#running ??= this.once()
				.catch(onError)
				.finally(() => {
					this.#running = undefined;
				});
		};
		this.#timer = every(deps.clock, options.periodMs ?? 60_000, activate, onError);
	}

	/** One activation. */
	async once(): Promise<void> {
		const { store, clock, rng, log, appendAudit } = this.#deps;
		const nowMs = clock.now();
		for (const scope of await store.read((tx) => tx.scopes.listDeletionsDue(nowMs, SCOPES_A_LOOK))) {
			const ctx = systemContext('reconciler/iam-upkeep', clock, log, uuidv7(nowMs, rng));
			try {
				const purged = await store.unit((tx) => purgeScope(tx, scope, { ctx, appendAudit, nowMs }));
				if (purged) log.info('a scope was deleted after its grace period', { scope: scope.name });
			} catch (error) {
				// One that can't be keeps no other back.
				log.error('a scope could not be deleted after its grace period; the next look tries again', {
					scope: scope.name,
					error,
				});
			}
		}
		await store.unit((tx) => tx.access.deleteExpiredBindings(nowMs - ENDED_SHOWN_MS, BINDINGS_A_LOOK));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.#running;
	}
}
