import type { Bus } from '../../bus/bus.ts';
import { KEY_LEAKED } from './report-leaked.ts';

/** Of the newest: an event comes as the hint of whoever wrote it, and again from the outbox. */
const REMEMBERED_MAX = 1000;

/**
 * Keys that were reported as leaked and revoked, as this replica heard of it since it started: what an alert is made from. In
 * memory: a report right before a crash of every replica may be in no scrape, and is in the audit log in any case.
 */
export class LeakCount implements Disposable {
	total = 0;
	readonly #heard = new Set<string>();
	readonly #unsubscribe: () => void;

	constructor(bus: Bus) {
		this.#unsubscribe = bus.subscribe(KEY_LEAKED, ({ key }) => this.#hear(key));
	}

	[Symbol.dispose](): void {
		this.#unsubscribe();
	}

	/** A key leaks once: it is revoked with that. */
	#hear(key: string): void {
		if (this.#heard.has(key)) return;
		this.#heard.add(key);
		this.total += 1;
		const [oldest] = this.#heard;
		if (this.#heard.size > REMEMBERED_MAX && oldest !== undefined) this.#heard.delete(oldest);
	}
}
