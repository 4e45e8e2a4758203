import type { Clock, Timer } from '../../../kit/clock.ts';
import { every } from '../../../kit/clock.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Bus } from '../../bus/bus.ts';
import type { Store } from '../../store/port/store.ts';
import type { AgentSessions } from '../sessions/agent-sessions.ts';

/**
 * Serials that open no stream any more, in memory: every stream open looks here. Fed from the store at start, at once
 * when a revocation is announced on the bus, and every second besides, because announcements may be lost: so a
 * revocation on any replica ends live streams here within two seconds (target 5 s). Entries go when the certificate
 * would have expired, which bounds the list.
 */
export interface DenylistDeps {
	readonly clock: Clock;
	readonly log: Logger;
	readonly store: Store;
	readonly bus: Bus;
	readonly sessions: AgentSessions;
}

const REFRESH_MS = 1000;
/** Commits may become visible out of order, and replicas' clocks differ. */
const OVERLAP_MS = 60_000;
const PAGE_MAX = 1000;

export class Denylist implements Disposable {
	readonly #deps: DenylistDeps;
	/** Serial -> when it may be forgotten. */
	readonly #denied = new Map<string, number>();
	readonly #unsubscribe: () => void;
	readonly #timer: Timer;
	readonly #listeners = new Set<(subjectId: string) => void>();
	#newestMs = 0;
	#refreshing: Promise<void> | undefined;
	#again = false;

	/** Reads the whole list first: a replica that doesn't know it yet must open no stream. */
	static async open(deps: DenylistDeps): Promise<Denylist> {
		const denylist = new Denylist(deps);
		try {
			await denylist.refresh();
		} catch (error) {
			denylist[Symbol.dispose]();
			throw error;
		}
		return denylist;
	}

	private constructor(deps: DenylistDeps) {
		this.#deps = deps;
		const wake = () => this.refresh().catch((error: unknown) => deps.log.warn('denylist refresh failed', { error }));
		this.#unsubscribe = deps.bus.subscribe('certificates.revoked', () => void wake());
		this.#timer = every(
			deps.clock,
			REFRESH_MS,
			() => void wake(),
			() => {},
		);
	}

	has(serial: string): boolean {
		return this.#denied.has(serial);
	}

	get size(): number {
		return this.#denied.size;
	}

	/** Called with the node or replica whose certificate was denied. */
	onDenied(listener: (subjectId: string) => void): void {
		this.#listeners.add(listener);
	}

	/** Resolves when everything committed before the call is in force here. */
	refresh(): Promise<void> {
		if (this.#refreshing !== undefined) {
			this.#again = true;
			return this.#refreshing;
		}
		this.#refreshing = this.#refreshUntilCurrent().finally(() => {
			this.#refreshing = undefined;
		});
		return this.#refreshing;
	}

	[Symbol.dispose](): void {
		this.#timer.cancel();
		this.#unsubscribe();
	}

	async #refreshUntilCurrent(): Promise<void> {
		do {
			this.#again = false;
			await this.#readNew();
		} while (this.#again);
		const nowMs = this.#deps.clock.now();
		for (const [serial, untilMs] of this.#denied) if (untilMs < nowMs) this.#denied.delete(serial);
	}

	async #readNew(): Promise<void> {
		const nowMs = this.#deps.clock.now();
		const sinceMs = this.#newestMs - OVERLAP_MS;
		// The port has no cursor: read more until everything since then fits.
		for (let limit = PAGE_MAX; ; limit *= 4) {
			const rows = await this.#deps.store.read(function* (tx) {
				return yield* tx.certificates.listDenied(nowMs - OVERLAP_MS, sinceMs, limit);
			});
			if (rows.length === limit) continue;
			for (const row of rows) {
				this.#newestMs = Math.max(this.#newestMs, row.revokedAtMs ?? 0);
				if (!this.#denied.has(row.serial)) this.#deny(row.serial, row.subjectId, row.notAfterMs);
			}
			return;
		}
	}

	#deny(serial: string, subjectId: string, notAfterMs: number): void {
		this.#denied.set(serial, notAfterMs + OVERLAP_MS);
		for (const listener of this.#listeners) listener(subjectId);
		const closed = this.#deps.sessions.closeSerial(serial, 'the certificate of this agent was revoked');
		if (closed > 0) this.#deps.log.info('streams ended by revocation', { serial, streams: closed });
	}
}
