import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { uniqueSeconds } from './host-fixture.ts';
import { readStat } from './proc.ts';
import { KernelWaiter, loadWait4, nodeWaiter, openWaiter, signalNumber, type Wait4, type Waiter } from './waiter.ts';

const logged: string[] = [];
const log = (line: string) => void logged.push(line);
const FAR_REAL_TIME_SIGNAL = 37;
let waiter: Waiter;
beforeAll(async () => {
	waiter = await openWaiter(systemClock, log);
});
afterAll(() => {
	if (waiter instanceof KernelWaiter) waiter[Symbol.dispose]();
});

function start(argv: readonly string[], by = waiter) {
	const [file = '', ...args] = argv;
	const child = spawn(file, args, { stdio: 'ignore' });
	return { pid: child.pid ?? 0, ended: by.adopt(child) };
}

const endOf = async (script: string, by = waiter) => (await start(['/bin/sh', '-c', script], by).ended).end;

it('waits by itself here', () => {
	expect(waiter).toBeInstanceOf(KernelWaiter);
	expect(logged).toEqual([]);
});

it('tells every exit code and every signal apart, also those that shells mix up', async () => {
	const codes = [0, 1, 35, 127, 128 + 9, 128 + 35, 255];
	expect(await Promise.all(codes.map((code) => endOf(`exit ${code}`)))).toEqual(
		codes.map((exitCode) => ({ kind: 'EXITED', exitCode })),
	);
	const signals: readonly (readonly [number, string])[] = [
		[6, 'SIGABRT'],
		[9, 'SIGKILL'],
		[15, 'SIGTERM'],
		[34, 'SIG34'],
		[64, 'SIG64'],
	];
	for (const [number, signal] of signals) {
		expect(await endOf(`ulimit -c 0; kill -${number} $$`)).toEqual({ kind: 'SIGNALED', signal });
		expect(signalNumber(signal)).toBe(number);
	}
});

it('sees all of 200 that a real-time signal ends at once', async () => {
	const children = Array.from({ length: 200 }, () => start(['sleep', uniqueSeconds()]));
	for (const { pid } of children) process.kill(pid, FAR_REAL_TIME_SIGNAL);
	const ends = await Promise.all(children.map(({ ended }) => ended));
	expect(ends.filter(({ end }) => end.kind === 'SIGNALED' && end.signal === 'SIG37')).toHaveLength(200);
});

it('tells the CPU time of a child, with that of its own children', async () => {
	// The kernel ends the inner one when it has used about a second, by a coarser account.
	const { cpu, end } = await start(['/bin/sh', '-c', '(ulimit -t 1; while :; do :; done); exit 4']).ended;
	expect(end).toEqual({ kind: 'EXITED', exitCode: 4 });
	expect((cpu?.userMs ?? 0) + (cpu?.systemMs ?? 0)).toBeGreaterThanOrEqual(400);
});

it('leaves no zombie, and children of others alone', async () => {
	const other = spawn('/bin/sh', ['-c', 'exit 9'], { stdio: 'ignore' });
	const exit = new Promise((resolve) => other.once('exit', resolve));
	const { pid, ended } = start(['true']);
	await ended;
	expect(await exit).toBe(9);
	expect(() => process.kill(pid, 0)).toThrow('ESRCH');
});

it('without wait4 passes on what Node says, marks its 0 as unproven, and says so', async () => {
	const lines: string[] = [];
	const fallback = await openWaiter(
		systemClock,
		(line) => lines.push(line),
		() => Promise.reject(new Error("Cannot find package 'koffi'")),
	);
	expect(fallback).toBe(nodeWaiter);
	expect(lines).toEqual([expect.stringContaining("Cannot find package 'koffi'")]);
	expect(await endOf('exit 0', fallback)).toEqual({ kind: 'EXITED', exitCode: 0, isUnproven: true });
	expect(await endOf('kill -35 $$', fallback)).toEqual({ kind: 'EXITED', exitCode: 0, isUnproven: true });
	expect(await endOf('exit 7', fallback)).toEqual({ kind: 'EXITED', exitCode: 7 });
	expect(await endOf('kill -9 $$', fallback)).toEqual({ kind: 'SIGNALED', signal: 'SIGKILL' });
});

it('does not use a wait4 that the trial finds wanting', async () => {
	const real = await loadWait4();
	const lines: string[] = [];
	// As if the status stood elsewhere.
	const wrong = await openWaiter(
		systemClock,
		(line) => lines.push(line),
		async () => (pid, status, options, usage) => {
			const found = real(pid, status, options, usage);
			status.writeInt32LE(0);
			return found;
		},
	);
	expect(wrong).toBe(nodeWaiter);
	expect(lines[0]).toContain('"exitCode":0');
});

it('adopts one that has ended already', async () => {
	const child = spawn('/bin/sh', ['-c', 'kill -35 $$'], { stdio: 'ignore' });
	// In the turn of the fork: nothing else can have waited.
	while (readStat(child.pid ?? 0)?.state !== 'Z');
	expect((await waiter.adopt(child)).end).toEqual({ kind: 'SIGNALED', signal: 'SIG35' });
});

it('falls back also where libuv still waits, and loses no other child over one that somebody else waited for', async () => {
	const real = await loadWait4();
	const stolen = new Set<number>();
	const wait4: Wait4 = (pid, ...rest) => (stolen.has(pid) ? -1 : real(pid, ...rest));
	const lines: string[] = [];
	const all: Wait4 = () => -1;
	expect(
		await openWaiter(
			systemClock,
			(line) => lines.push(line),
			async () => all,
		),
	).toBe(nodeWaiter);
	expect(lines[0]).toContain('somebody else was told how');

	const own = new KernelWaiter(wait4);
	try {
		const lost = start(['/bin/sh', '-c', 'exit 3'], own);
		stolen.add(lost.pid);
		await expect(lost.ended).rejects.toThrow('somebody else was told how');
		expect((await start(['/bin/sh', '-c', 'exit 4'], own).ended).end).toEqual({ kind: 'EXITED', exitCode: 4 });
	} finally {
		own[Symbol.dispose]();
	}
});
