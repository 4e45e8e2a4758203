import { expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { type Reader, readingShare, Turns, turnMs } from './turns.ts';

/** A loop in which reading takes time, and so does everything else: what each reader took of it. */
class Loop {
	readonly #idle = new VirtualClock();
	#readMs = 0;
	readonly turns = new Turns({
		now: () => this.nowMs(),
		monotonic: () => this.nowMs(),
		setTimer: (callback, delayMs) => this.#idle.setTimer(callback, delayMs),
		defer: (callback) => void this.#idle.setTimer(callback, STEP_MS),
	});
	readonly tookMs = new Map<Reader, number>();

	nowMs(): number {
		return this.#idle.monotonic() + this.#readMs;
	}

	/** Has always something left, and each of its turns takes so long. */
	reader(costMs: number): Reader {
		const reader: Reader = {
			read: () => {
				this.#readMs += costMs;
				this.tookMs.set(reader, (this.tookMs.get(reader) ?? 0) + costMs);
				return true;
			},
		};
		this.turns.want(reader);
		return reader;
	}

	/** Has something once, each time that it wants. */
	once(costMs: number) {
		let isRead = false;
		const reader: Reader = {
			read: () => {
				this.#readMs += costMs;
				isRead = true;
				return false;
			},
		};
		const want = () => {
			isRead = false;
			this.turns.want(reader);
		};
		want();
		return { want, isRead: () => isRead };
	}

	step(): void {
		this.#idle.advance(STEP_MS);
	}

	/** With somebody who types now and then, or alone. */
	run(forMs: number, typist: object | undefined): void {
		const untilMs = this.nowMs() + forMs;
		for (let step = 0; this.nowMs() < untilMs; step += 1) {
			if (typist !== undefined && step % 40 === 0) this.turns.note(typist);
			this.step();
		}
	}

	share(reader: Reader): number {
		return (this.tookMs.get(reader) ?? 0) / this.nowMs();
	}
}

const STEP_MS = 0.25;

test('beside somebody who types, reading takes its share and no more, whatever a turn costs', () => {
	for (const costMs of [turnMs, 7, 60]) {
		const loop = new Loop();
		const costly = loop.reader(costMs);
		loop.turns.note(costly);
		loop.run(20_000, {});
		expect(loop.share(costly), `${costMs} ms a turn`).toBeLessThan(readingShare * 1.1);
		expect(loop.share(costly), `${costMs} ms a turn`).toBeGreaterThan(readingShare * 0.8);
	}
});

test('many that are costly have one share together, each as much of it', () => {
	const loop = new Loop();
	const readers = Array.from({ length: 10 }, (_, at) => loop.reader(1 + at));
	loop.run(60_000, {});
	const shares = readers.map((reader) => loop.share(reader));
	expect(shares.reduce((sum, share) => sum + share, 0)).toBeLessThan(readingShare * 1.1);
	for (const share of shares) expect(share).toBeGreaterThan((readingShare / 10) * 0.5);
});

test('whoever took little waits for none of them', () => {
	const loop = new Loop();
	for (let at = 0; at < 10; at += 1) loop.reader(5);
	loop.run(5_000, {});
	let isRead = false;
	loop.turns.want({
		read: () => {
			isRead = true;
			return false;
		},
	});
	loop.step();
	expect(isRead).toBe(true);
});

test('nobody rests for long while readers take less than their share, however many there were', () => {
	const loop = new Loop();
	const snapshots = Array.from({ length: 200 }, () => loop.once(10));
	loop.run(3_000, {});
	expect(snapshots.every(({ isRead }) => isRead())).toBe(true);
	// Its rest for the first would be ten seconds.
	const again = present(snapshots[0], 'one of them');
	again.want();
	loop.run(600, {});
	expect(again.isRead()).toBe(true);
});

test('one that is active alone is read without a rest', () => {
	const loop = new Loop();
	const alone = loop.reader(1);
	loop.turns.note(alone);
	loop.run(2_000, undefined);
	expect(loop.share(alone)).toBeGreaterThan(0.7);
});

test('one that is gone is read no more', () => {
	const loop = new Loop();
	const gone = loop.reader(1);
	loop.turns.forget(gone);
	loop.run(100, undefined);
	expect(loop.tookMs.size).toBe(0);
});
