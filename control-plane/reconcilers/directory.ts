import { every, type Timer } from '../../kit/clock.ts';
import { DirectoryCheck, type DirectoryDeps } from '../app/login/check-directory.ts';

/** Wakes the look at the providers' directories; one replica does it, another once that one has gone. */
export interface DirectoryReconcilerDeps extends DirectoryDeps {
	readonly replicaId: string;
}

const LOOK_MS = 60_000;
/** Above the longest look: two hundred people, four at a time, at most fifteen seconds each. */
const LEASE_MS = 900_000;

export class DirectoryReconciler implements AsyncDisposable {
	readonly #deps: DirectoryReconcilerDeps;
	readonly #check: DirectoryCheck;
	readonly #timer: Timer;
	readonly #stopped = new AbortController();
	#running: Promise<void> | undefined;

	constructor(deps: DirectoryReconcilerDeps) {
		this.#deps = deps;
		this.#check = new DirectoryCheck(deps);
		const start = () => {
			this.#running ??= this.once().finally(() => {
				this.#running = undefined;
			});
		};
		this.#timer = every(deps.clock, LOOK_MS, start, () => {});
		// A control plane that restarts more often than that looks too.
		start();
	}

	/** Never rejects. */
	async once(): Promise<void> {
		const { store, replicaId, log } = this.#deps;
		try {
			const nowMs = await store.now();
			const isMine = await store.unit((tx) => tx.leases.acquire('directory', replicaId, nowMs, nowMs + LEASE_MS));
			if (isMine) await this.#check.look(this.#stopped.signal);
		} catch (error) {
			log.warn('a directory could not be asked about its people; the next look asks again', { error });
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		this.#stopped.abort();
		await this.#running;
		const { store, replicaId, log } = this.#deps;
		try {
			await store.unit((tx) => tx.leases.release('directory', replicaId));
		} catch (error) {
			log.warn('the lease of the look at directories ends by itself, in minutes', { error });
		}
	}
}
