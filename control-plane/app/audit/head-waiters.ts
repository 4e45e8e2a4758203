import type { Clock, Timer } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';

/** Calls that wait until a signed head covers their record. Bounded in number and in time. */
const WAITERS_MAX = 10_000;
const WAIT_MS_MAX = 10_000;

interface Waiter {
	/** Position of the record once it is known. */
	seq: number | undefined;
	readonly resolve: () => void;
	readonly reject: (error: GpuaasError) => void;
	readonly timer: Timer;
}

export class HeadWaiters {
	readonly #clock: Clock;
	readonly #waiters = new Map<string, Waiter[]>();
	#count = 0;

	constructor(clock: Clock) {
		this.#clock = clock;
	}

	add(leafId: string): Promise<void> {
		if (this.#count >= WAITERS_MAX) return Promise.reject(late(`${WAITERS_MAX} calls wait for one already`));
		return new Promise((resolve, reject) => {
			const give = () => this.reject(leafId, late(`none came within ${WAIT_MS_MAX / 1000} s`));
			const waiter = { seq: undefined, resolve, reject, timer: this.#clock.setTimer(give, WAIT_MS_MAX) };
			const others = this.#waiters.get(leafId);
			if (others === undefined) this.#waiters.set(leafId, [waiter]);
			else others.push(waiter);
			this.#count += 1;
		});
	}

	/** Records whose position nobody has told yet. */
	unplaced(): readonly string[] {
		const ids: string[] = [];
		for (const [id, waiters] of this.#waiters) if (waiters.some(({ seq }) => seq === undefined)) ids.push(id);
		return ids;
	}

	chained(leafId: string, seq: number): void {
		for (const waiter of this.#waiters.get(leafId) ?? []) waiter.seq = seq;
	}

	signed(size: number): void {
		for (const [id, waiters] of this.#waiters) {
			if (waiters.every(({ seq }) => seq !== undefined && seq <= size)) {
				for (const { resolve } of this.#take(id)) resolve();
			}
		}
	}

	reject(leafId: string, error: GpuaasError): void {
		for (const { reject } of this.#take(leafId)) reject(error);
	}

	/** Signing has stopped: what they did stays done. */
	rejectAll(): void {
		for (const id of [...this.#waiters.keys()]) this.reject(id, stopped());
	}

	#take(leafId: string): readonly Waiter[] {
		const waiters = this.#waiters.get(leafId) ?? [];
		this.#waiters.delete(leafId);
		this.#count -= waiters.length;
		for (const { timer } of waiters) timer.cancel();
		return waiters;
	}
}

/** For whoever comes while signing is stopped, with a change that is made. */
export function stopped(): GpuaasError {
	return late('the audit log can’t be sealed now');
}

function late(why: string): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'AUDIT_UNAVAILABLE',
		message: `the change was made and is on record, but no signed audit head covers it yet: ${why}. Look at what it did before doing it again`,
	});
}
