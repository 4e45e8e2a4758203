import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { present } from './assert.ts';
import { systemClock } from './clock.ts';
import { systemRng } from './ids.ts';
import { type ChildExit, type ChildSpec, SupervisedChild, type SupervisorOptions } from './process.ts';
import { bootId, isSameProcess, processIdentity } from './process-identity.ts';
import { VirtualClock } from './virtual-clock.ts';

const sh = (script: string, more: Partial<ChildSpec> = {}): ChildSpec => ({
	name: 'test',
	command: '/bin/sh',
	args: ['-c', script],
	env: { PATH: '/usr/bin:/bin' },
	stdio: ['ignore', 'pipe', 'inherit'],
	...more,
});

/** Real processes, virtual time: exits are awaited, delays are jumped over. */
function supervise(spec: ChildSpec, options: Partial<SupervisorOptions> = {}) {
	const clock = new VirtualClock();
	const exits: ChildExit[] = [];
	let wake = () => {};
	const child = new SupervisedChild({
		clock,
		rng: { ...systemRng, float: () => 0.5 },
		spec,
		onExit: (exit) => {
			exits.push(exit);
			wake();
		},
		...options,
	});
	const exitCount = async (count: number) => {
		while (exits.length < count) await new Promise<void>((resolve) => (wake = resolve));
		return exits;
	};
	return { clock, child, exits, exitCount };
}

describe('restart', () => {
	test('backs off further after each exit, and starts again', async () => {
		const { clock, child, exits, exitCount } = supervise(sh('exit 7'), { backoff: { baseMs: 100, maxMs: 300 } });
		const delays: number[] = [];
		for (let run = 1; run <= 4; run += 1) {
			await exitCount(run);
			expect(child.state).toBe('waiting');
			expect(child.pid).toBeUndefined();
			delays.push(clock.nextInMs() ?? -1);
			clock.advance(clock.nextInMs() ?? 0);
		}
		expect(delays).toEqual([50, 100, 150, 150]);
		expect(exits[0]).toMatchObject({ code: 7, signal: null, error: undefined, next: { restartInMs: 50 } });
		expect(new Set(exits.map(({ pid }) => pid)).size).toBe(4);
		await child.stop();
	});

	test('a stable run forgets earlier failures', async () => {
		const { clock, child, exitCount } = supervise(sh('read line; exit 1', { stdio: ['pipe', 'ignore', 'inherit'] }), {
			backoff: { baseMs: 100, maxMs: 10_000 },
			stableAfterMs: 1000,
			restartsMax: 2,
			onStart: (process) => started.push(process),
		});
		// The first start happens in the constructor.
		const end = async (count: number) => {
			started.at(-1)?.stdin?.end();
			await exitCount(count);
			return clock.nextInMs();
		};
		expect(await end(1)).toBe(50);
		clock.advance(50);
		expect(await end(2)).toBe(100);
		clock.advance(100);
		clock.advance(1000);
		expect(await end(3)).toBe(50);
		await child.stop();
	});
	const started: ChildProcess[] = [];

	test('gives up after its restarts, and says so', async () => {
		const { clock, child, exitCount } = supervise(sh('exit 1'), { restartsMax: 1 });
		await exitCount(1);
		clock.advance(60_000);
		const last = await child.ended;
		expect(last?.next).toBe('restarts-spent');
		expect(child.state).toBe('failed');
		await child.stop();
	});

	test('on-failure lets a success end; never lets anything end', async () => {
		const fine = supervise(sh('exit 0'), { restart: 'on-failure' });
		expect((await fine.child.ended)?.next).toBe('not-restarted');
		const broken = supervise(sh('exit 3'), { restart: 'on-failure' });
		expect((await broken.exitCount(1))[0]?.next).toMatchObject({ restartInMs: expect.any(Number) });
		await broken.child.stop();
		const once = supervise(sh('kill -9 $$'), { restart: 'never' });
		expect(await once.child.ended).toMatchObject({ code: null, signal: 'SIGKILL', next: 'not-restarted' });
	});

	test('a program that is not there is an exit with its error', async () => {
		const { child } = supervise({ ...sh(''), command: '/no/such/program' }, { restart: 'never' });
		expect(await child.ended).toMatchObject({ pid: undefined, code: null, error: { code: 'ENOENT' } });
		expect(child.signal('SIGTERM')).toBe(false);
	});
});

describe('stop', () => {
	test('asks first, and waits until the process is gone', async () => {
		const { child, exits } = await running("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
		const identity = processIdentity(child.pid ?? 0);
		await child.stop();
		expect(exits).toMatchObject([{ code: 5, next: 'stopped' }]);
		expect(identity !== undefined && isSameProcess(identity)).toBe(false);
		expect(child.state).toBe('stopped');
		await child.stop();
	});

	test('kills after the grace period, not before', async () => {
		const { child, clock, exits } = await running("trap '' TERM; echo ready; while :; do sleep 0.01; done");
		const stopping = child.stop();
		clock.advance(9_999);
		// A signal that was sent too early would not have been seen yet.
		expect(clock.nextInMs()).toBe(1);
		expect(child.pid).toBeDefined();
		expect(child.state).toBe('stopping');
		clock.advance(1);
		await stopping;
		expect(exits).toMatchObject([{ code: null, signal: 'SIGKILL', next: 'stopped' }]);
	});

	test('while it waits to restart, it just ends', async () => {
		const { child, clock, exitCount } = supervise(sh('exit 1'));
		await exitCount(1);
		await child.stop();
		clock.advance(60_000);
		expect(child.state).toBe('stopped');
		expect((await exitCount(1)).length).toBe(1);
	});

	test('a group goes with its leader, also when the leader just dies', async () => {
		const { child, output } = await running('sleep 1000 & echo $!; wait', { ownGroup: true });
		const grandchild = Number(output);
		const identity = processIdentity(grandchild);
		expect(identity).toBeDefined();
		process.kill(child.pid ?? 0, 'SIGKILL');
		await child.ended;
		while (identity !== undefined && isSameProcess(identity))
			await new Promise<void>((resolve) => systemClock.defer(resolve));
	});

	test('await using stops it', async () => {
		let pid = 0;
		{
			await using child = (await running('echo ready; exec sleep 1000')).child;
			pid = child.pid ?? 0;
			expect(processIdentity(pid)).toBeDefined();
		}
		expect(processIdentity(pid)).toBeUndefined();
	});
});

test('nothing of our environment is inherited', async () => {
	const { output } = await running('env | sort | tr "\\n" " "; echo; exec sleep 1000', {}, async (child) =>
		child.stop(),
	);
	expect(output).not.toMatch(/VITEST|HOME=/);
});

describe('identity', () => {
	test('ours is stable and is found', () => {
		const identity = processIdentity(process.pid);
		expect(identity).toEqual(processIdentity(process.pid));
		expect(identity?.bootId).toBe(bootId());
		expect(identity !== undefined && isSameProcess(identity)).toBe(true);
	});

	test('another start time or boot is another process', () => {
		const identity = processIdentity(process.pid);
		if (identity === undefined) throw new Error('no /proc');
		expect(isSameProcess({ ...identity, startTimeTicks: identity.startTimeTicks + 1 })).toBe(false);
		expect(isSameProcess({ ...identity, bootId: 'x' })).toBe(false);
		expect(isSameProcess({ ...identity, pid: 1 })).toBe(false);
	});

	test.each([0, -1, 1.5, Number.NaN, 2 ** 31, 2 ** 22 + 7])('pid %s has none', (pid) => {
		expect(processIdentity(pid)).toBeUndefined();
	});

	test('a zombie has ended', async () => {
		// The child exits once the shell has become sleep, which never waits for it.
		const { child, output } = await running(
			'while [ "$(cat /proc/$$/comm)" != sleep ]; do :; done & echo $!; exec sleep 1000',
		);
		const zombie = Number(output);
		while (processIdentity(zombie) !== undefined) await new Promise<void>((resolve) => systemClock.defer(resolve));
		process.kill(zombie, 0);
		await child.stop();
	});

	test('a command name with spaces and parentheses changes nothing', async () => {
		const { child } = await running("printf 'a) R 1 (b' > /proc/$$/comm; echo ready; read line", {
			stdio: ['pipe', 'pipe', 'inherit'],
		});
		const identity = processIdentity(child.pid ?? 0);
		expect(identity?.startTimeTicks).toBeGreaterThan(0);
		await child.stop();
	});
});

/** Supervises a script that prints a line when it is ready. */
async function running(
	script: string,
	more: Partial<ChildSpec> = {},
	then?: (child: SupervisedChild) => Promise<void>,
) {
	let process: ChildProcess | undefined;
	const supervised = supervise(sh(script, more), { restart: 'never', onStart: (child) => (process = child) });
	const [chunk] = (await once(present(process?.stdout, 'its output is piped'), 'data')) as [Buffer];
	await then?.(supervised.child);
	return { ...supervised, output: chunk.toString().trim() };
}
