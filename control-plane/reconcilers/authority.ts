import { every, type Timer } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import { rotateBySelf, type SelfRotationDeps } from '../app/certificates/self-rotate.ts';

/**
 * Carries the rotation of the issuing set one step on whenever one is due and nobody has to be waited for: see
 * app/certificates/rotation-plan.ts. Takes no input, is idempotent; one replica does it, another once that one has gone.
 * What keeps it from a due step is shown by health on the replica that tried.
 */
export interface AuthorityReconcilerDeps extends SelfRotationDeps {
	readonly replicaId: string;
}

const LOOK_MS = 60_000;

export class AuthorityReconciler implements AsyncDisposable {
	readonly #deps: AuthorityReconcilerDeps;
	readonly #timer: Timer;
	readonly #unsubscribe: () => void;
	#running: Promise<void> | undefined;
	#closed = false;

	constructor(deps: AuthorityReconcilerDeps, options: { readonly periodMs?: number } = {}) {
		this.#deps = deps;
		const start = () => {
			if (this.#closed) return;
			this.#running ??= this.once().finally(() => {
				this.#running = undefined;
			});
		};
		this.#timer = every(deps.clock, options.periodMs ?? LOOK_MS, start, () => {});
		this.#unsubscribe = deps.bus.subscribe('authority.changed', start);
		start();
	}

	/** One activation; never rejects. */
	async once(): Promise<void> {
		const { log, authority } = this.#deps;
		try {
			if (await this.#isMine()) await rotateBySelf(this.#deps);
			authority.rotationTrouble = '';
		} catch (error) {
			authority.rotationTrouble = messageOf(error);
			log.error('the certificate authority could not be rotated; it is tried again', { error });
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#closed = true;
		this.#timer.cancel();
		this.#unsubscribe();
		await this.#running;
		const { store, replicaId, log } = this.#deps;
		try {
			await store.unit((tx) => tx.leases.release('authority', replicaId));
		} catch (error) {
			log.warn('the lease of the rotation ends by itself, in minutes', { error });
		}
	}

	async #isMine(): Promise<boolean> {
		const { store, replicaId } = this.#deps;
		const nowMs = await store.now();
		return await store.unit((tx) => tx.leases.acquire('authority', replicaId, nowMs, nowMs + 3 * LOOK_MS));
	}
}
