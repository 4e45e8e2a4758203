import type { Bus, Hint } from './bus.ts';

/** The default bus: calls listeners at once, in the same process. */
export class InProcessBus implements Bus {
	readonly #listeners = new Map<string, Set<(hint: Hint) => void>>();

	publish(hint: Hint): void {
		const listeners = this.#listeners.get(hint.topic);
		if (listeners !== undefined) for (const listener of [...listeners]) listener(hint);
	}

	subscribe(topic: string, listener: (hint: Hint) => void): () => void {
		let listeners = this.#listeners.get(topic);
		if (listeners === undefined) {
			listeners = new Set();
			this.#listeners.set(topic, listeners);
		}
		listeners.add(listener);
		return () => {
			listeners.delete(listener);
			if (listeners.size === 0) this.#listeners.delete(topic);
		};
	}
}
