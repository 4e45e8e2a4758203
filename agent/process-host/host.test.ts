/** The host in this process, on a disk that can be held up and can fail. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { bootId } from '../../kit/process-identity.ts';
import type { HostEvent, LaunchOutcome } from '../tasks/process-host.ts';
import { findWrappers } from './exec-chain.ts';
import { FifoPool } from './fifo.ts';
import { Host } from './host.ts';
import { pidsWith, request, uniqueSeconds, until } from './host-fixture.ts';
import type { JournalFile } from './journal.ts';
import { defaultHostConfig } from './limits.ts';
import { sessionBoxes } from './task-box.ts';
import { Users } from './users.ts';
import { nodeWaiter } from './waiter.ts';

const MINUTE_MS = 60_000;

class HeldFile implements JournalFile {
	text = '';
	syncs = 0;
	/** Syncs from this one on wait. */
	holdFrom = Number.POSITIVE_INFINITY;
	/** Appends of records of this kind fail. */
	failKind = '';
	#release: (() => void)[] = [];

	append(text: string): void {
		if (this.failKind !== '' && text.includes(`"kind":"${this.failKind}"`)) {
			throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
		}
		this.text += text;
	}

	sync(): Promise<void> {
		this.syncs += 1;
		if (this.syncs < this.holdFrom) return Promise.resolve();
		return new Promise((resolve) => this.#release.push(resolve));
	}

	get isHolding(): boolean {
		return this.#release.length > 0;
	}

	release(): void {
		this.holdFrom = Number.POSITIVE_INFINITY;
		for (const resolve of this.#release.splice(0)) resolve();
	}

	replace(text: string): void {
		this.text = text;
	}

	close(): void {}
}

/** As the system's, but for what a test says: timers of a minute and more fire within `longTimerMs`. */
let longTimerMs: number;
let longTimers: number;
let shiftMs: number;
const clock: Clock = {
	...systemClock,
	monotonic: () => systemClock.monotonic() + shiftMs,
	setTimer: (callback, delayMs) => {
		const isLong = delayMs > MINUTE_MS / 2;
		if (isLong) longTimers += 1;
		return systemClock.setTimer(callback, isLong ? Math.min(delayMs, longTimerMs) : delayMs);
	},
};

let directory: string;
let file: HeldFile;
let host: Host;
let events: HostEvent[];

beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), 'host-'));
	mkdirSync(join(directory, 'spool'));
	mkdirSync(join(directory, 'fifo'));
	file = new HeldFile();
	events = [];
	longTimerMs = Number.POSITIVE_INFINITY;
	longTimers = 0;
	shiftMs = 0;
	const users = new Users(systemClock);
	host = new Host({
		clock,
		directory,
		config: defaultHostConfig,
		bootId: bootId(),
		boxes: sessionBoxes,
		wrappers: findWrappers(users.self),
		users,
		waiter: nodeWaiter,
		fifos: new FifoPool(join(directory, 'fifo')),
		journalFile: file,
		recovered: new Map(),
		log: () => undefined,
	});
	host.subscribe((event) => events.push(event));
});

afterEach(async () => {
	file.failKind = '';
	file.release();
	await host.shutdown(0);
	rmSync(directory, { recursive: true, force: true });
});

it('starts nothing before the intent is durable', async () => {
	const seconds = uniqueSeconds();
	file.holdFrom = 1;
	const launching = host.launch(request(['sleep', seconds]));
	await until(() => expect(file.isHolding).toBe(true));
	expect(file.text).toContain('"INTENT"');
	expect(pidsWith(seconds)).toEqual([]);
	file.release();
	expect(await launching).toMatchObject({ kind: 'STARTED' });
	await until(() => expect(pidsWith(seconds).length).toBe(1));
});

it('answers and announces the start only when its record is durable', async () => {
	const seconds = uniqueSeconds();
	let outcome: LaunchOutcome | undefined;
	file.holdFrom = 2;
	const launching = host.launch(request(['sleep', seconds])).then((value) => {
		outcome = value;
	});
	await until(() => expect(pidsWith(`sleep\0${seconds}`).length).toBe(1));
	await until(() => expect(file.isHolding).toBe(true));
	expect(file.text).toContain('"STARTED"');
	expect([outcome, events]).toEqual([undefined, []]);
	file.release();
	await launching;
	expect(outcome?.kind).toBe('STARTED');
	expect(events.map((event) => event.kind)).toEqual(['STARTED']);
});

it('gives no result, and announces none, before its record is durable', async () => {
	const wanted = request(['sh', '-c', 'read line'], { stdin: Buffer.from('x\n') });
	file.holdFrom = 3;
	await host.launch(wanted);
	await until(() => expect(file.isHolding).toBe(true));
	expect(file.text).toContain('"ENDED"');
	expect(host.result(wanted)).toMatchObject({ kind: 'NOT_ENDED', status: { phase: 'RUNNING' } });
	expect(host.forget(wanted)).toBe('NOT_ENDED');
	expect(events.map((event) => event.kind)).toEqual(['STARTED']);
	file.release();
	await until(() => expect(host.result(wanted)).toMatchObject({ kind: 'ENDED' }));
	expect(events.map((event) => event.kind)).toEqual(['STARTED', 'ENDED']);
});

it('refuses with DISK_FULL when the intent finds no room, and takes the attempt once there is room', async () => {
	const wanted = request(['true']);
	file.failKind = 'INTENT';
	expect(await host.launch(wanted)).toMatchObject({ kind: 'REFUSED', reason: 'DISK_FULL' });
	expect(host.list()).toEqual([]);
	file.failKind = '';
	expect(await host.launch(wanted)).toMatchObject({ kind: 'STARTED' });
});

it('stops a task whose start cannot be recorded, and tells when it can', async () => {
	const seconds = uniqueSeconds();
	const wanted = request(['sleep', seconds]);
	file.failKind = 'STARTED';
	const launching = host.launch(wanted);
	await until(() => expect(file.text).toContain('"INTENT"'));
	await until(() => expect(host.list()[0]).toMatchObject({ started: { taskId: wanted.taskId } }));
	await until(() => expect(pidsWith(seconds)).toEqual([]));
	expect(events).toEqual([]);
	file.failKind = '';
	expect(await launching).toMatchObject({ kind: 'STARTED' });
	await until(() => expect(host.result(wanted)).toMatchObject({ kind: 'ENDED', result: { stoppedBy: 'DISK' } }));
});

it('does not start what was cancelled while its intent was written', async () => {
	const wanted = request(['true']);
	file.holdFrom = 1;
	const launching = host.launch(wanted);
	await until(() => expect(file.isHolding).toBe(true));
	expect(host.cancel(wanted, 0)).toBe('STOPPING');
	file.release();
	expect(await launching).toMatchObject({ kind: 'REFUSED', reason: 'CANCELLED' });
	expect(file.text).toContain('"REFUSED"');
	expect(host.result(wanted)).toEqual({ kind: 'UNKNOWN' });
});

it('does not call what it had not started when it ended cancelled', async () => {
	const wanted = request(['true']);
	file.holdFrom = 1;
	const launching = host.launch(wanted);
	await until(() => expect(file.isHolding).toBe(true));
	const ending = host.shutdown(0);
	file.release();
	expect(await launching).toMatchObject({ kind: 'REFUSED', reason: 'SHUTTING_DOWN' });
	await ending;
	expect(host.result(wanted)).toEqual({ kind: 'UNKNOWN' });
});

it('ends a task at its timeout, not when a timer that can not be as long fires', async () => {
	longTimerMs = 1;
	const wanted = request(['sleep', uniqueSeconds()], { timeoutMs: MINUTE_MS });
	expect(await host.launch(wanted)).toMatchObject({ kind: 'STARTED' });
	await until(() => expect(longTimers > 2 || host.result(wanted).kind === 'ENDED').toBe(true));
	expect(host.result(wanted)).toMatchObject({ kind: 'NOT_ENDED' });
	shiftMs = MINUTE_MS;
	await until(() => expect(host.result(wanted)).toMatchObject({ kind: 'ENDED', result: { stoppedBy: 'TIMEOUT' } }));
});
