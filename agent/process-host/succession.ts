import { type Clock, sleep } from '../../kit/clock.ts';
import { spokenVersions } from './greeting.ts';

/** How often a host of another release is asked whether it has anything left. */
const LOOK_MS = 2000;
/** What kit/version.ts says while a package is being installed. */
const UNREADABLE = '0.0.0';
/** A host that is asked to go and says nothing is left to whoever watches its heartbeat. */
const RETIRE_MS_MAX = 15_000;

/** A host as its successor sees it. */
export interface Replaceable {
	/** That the two agreed on. */
	readonly version: number;
	/** Of the package that it was started from; empty when it is too old to say. */
	readonly release: string;
	/** Whether nothing is left in it that its end would end. */
	isIdle(): Promise<boolean>;
	/** Ends the host if it is still idle; false when it isn't any more, and goes on. */
	retire(): Promise<boolean>;
}

/**
 * After an upgrade the host of the release before goes on with what runs in it, and takes what is new, too, as far as it
 * can (one of version 1 holds nobody to their devices): there is one host a directory. Once it has nothing left it makes
 * room for one of the release on disk. A host that never runs empty is never
 * replaced.
 */
export class Succession {
	readonly #clock: Clock;
	readonly #release: string;
	readonly #installed: () => string;

	/**
	 * `release`: of the agent. `installed`: of the package on disk now, which the next host is started from; an upgrade may
	 * have put another in the agent's place while it runs.
	 */
	constructor(clock: Clock, release: string, installed: () => string) {
		this.#clock = clock;
		this.#release = release;
		this.#installed = installed;
	}

	/** Resolves with why another host is needed, when nothing is left in one of another release; else once `signal` aborts. */
	async watch(host: Replaceable, signal: AbortSignal): Promise<string> {
		for (;;) {
			await sleep(this.#clock, LOOK_MS, signal);
			if (signal.aborted) return '';
			if (!this.#wouldDiffer(host)) continue;
			// One that is lost meanwhile is noticed by its connection.
			if (await host.isIdle().catch(() => false))
				return `it is of release ${host.release || 'unknown'} and has nothing left: one of ${this.#installed()} takes its place`;
		}
	}

	/** Once nobody gives it work any more; whatever came just before keeps it. */
	async leave(host: Replaceable): Promise<void> {
		if (!this.#wouldDiffer(host)) return;
		const enough = new AbortController();
		const asked = host.retire().catch(() => false);
		await Promise.race([asked, sleep(this.#clock, RETIRE_MS_MAX, enough.signal)]).finally(() => enough.abort());
	}

	/** Whether its successor would be of another release than it is; else it would be replaced again and again. */
	#wouldDiffer({ version, release }: Replaceable): boolean {
		const installed = this.#installed();
		if (installed === UNREADABLE) return false;
		if (release !== '') return installed !== release;
		// It doesn't say which it is of: older than this agent, so older than what is on disk if that is the agent's.
		return version < Math.max(...spokenVersions) && installed === this.#release;
	}
}
