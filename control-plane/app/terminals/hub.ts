import { assert } from '../../../kit/assert.ts';
import type { Clock } from '../../../kit/clock.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { RelayHooks } from './channel-hooks.ts';
import { Relay } from './relay.ts';

/**
 * The channels that this replica relays. A relay is here from the moment that its terminal is asked for, or its agent
 * comes back with it, until it has ended; the row in the store is the truth, and a replica that starts anew makes its
 * relays from there. Made by the composition root; used by use cases (attach), the gateway (agents) and the reconciler.
 */
export class TerminalHub {
	readonly clock: Clock;
	readonly #relays = new Map<string, Relay>();

	constructor(clock: Clock) {
		this.clock = clock;
	}

	get(terminalId: string): Relay | undefined {
		return this.#relays.get(terminalId);
	}

	get size(): number {
		return this.#relays.size;
	}

	relays(): readonly Relay[] {
		return [...this.#relays.values()];
	}

	/** The relay of a terminal that isn't closed; `hooks` for one that is made now. */
	open(terminal: TerminalRow, hooks: Omit<RelayHooks, 'clock'>): Relay {
		assert(terminal.state !== 'closed', 'a closed terminal has no relay');
		let relay = this.#relays.get(terminal.id);
		if (relay === undefined) {
			relay = new Relay(terminal, { ...hooks, clock: this.clock });
			this.#relays.set(terminal.id, relay);
		}
		return relay;
	}

	/** When its end is kept. */
	remove(terminalId: string): void {
		this.#relays.delete(terminalId);
	}
}
