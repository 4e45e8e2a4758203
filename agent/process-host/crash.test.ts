import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../kit/clock.ts';
import {
	compileCache,
	firstOutput,
	HostFixture,
	launched,
	outputOf,
	pidsWith,
	request,
	resultOf,
	run,
	uniqueSeconds,
	until,
} from './host-fixture.ts';
import { reapDirectory } from './reap.ts';
import { startProcessHost } from './start.ts';
import { encodeRecord, readState } from './state.ts';

const mainPath = fileURLToPath(new URL('./main.ts', import.meta.url));

describe.each(['off', 'auto'] as const)('when the host is killed, with cgroup %s', (cgroup) => {
	it('leaves nothing running after a reap, and the next host says HOST_DIED', async () => {
		await using fixture = await HostFixture.start({ cgroup });
		const [leader, child, escaped] = [uniqueSeconds(), uniqueSeconds(), uniqueSeconds()];
		// One child in its own group with its output elsewhere, one in its own session that holds the output.
		const script = `echo partial; set -m; sleep ${child} >/dev/null 2>&1 & setsid sleep ${escaped} & sleep ${leader}`;
		const tasks = [];
		for (let index = 0; index < 5; index += 1) {
			tasks.push(await launched(fixture.host, request(['bash', '-c', script])));
		}
		await until(() =>
			expect([leader, child, escaped].map((each) => pidsWith(`sleep\0${each}`).length)).toEqual([5, 5, 5]),
		);
		// What the host didn't read yet dies with its pipes.
		for (const task of tasks) await firstOutput(fixture.host, task);
		expect(await reapDirectory({ directory: fixture.directory, clock: systemClock })).toEqual({ kind: 'HOST_ALIVE' });
		await fixture.killHost();
		// The children began before the host's last sign of life or hold its pipes; no leader lives to vouch for them.
		const reaped = await reapDirectory({ directory: fixture.directory, clock: systemClock });
		expect(reaped).toMatchObject({ kind: 'REAPED', remaining: 0 });
		expect([leader, child, escaped].flatMap(pidsWith)).toEqual([]);

		const host = await fixture.connect();
		for (const task of tasks) {
			const result = await resultOf(host, task);
			expect(result).toMatchObject({ end: { kind: 'HOST_DIED' }, stoppedBy: 'NONE', started: { taskId: task.taskId } });
			expect((await outputOf(host, task)).stdout.toString()).toBe('partial\n');
			expect(result.output.kept.stdout.bytes).toBe(8);
			expect(result.output.written).toBeUndefined();
			expect(await host.launch(task)).toMatchObject({ kind: 'DUPLICATE', status: { phase: 'ENDED' } });
		}
		expect((await run(host, request(['true']))).result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
	});

	it('reaps by itself when it starts again', async () => {
		await using fixture = await HostFixture.start({ cgroup });
		const seconds = uniqueSeconds();
		const task = await launched(fixture.host, request(['sh', '-c', `setsid sleep ${seconds} & sleep ${seconds}`]));
		await until(() => expect(pidsWith(`sleep\0${seconds}`).length).toBe(2));
		await fixture.killHost();
		const host = await fixture.connect();
		expect(pidsWith(seconds)).toEqual([]);
		expect((await resultOf(host, task)).end).toEqual({ kind: 'HOST_DIED' });
	});

	it('keeps results that were not forgotten, with their output', async () => {
		await using fixture = await HostFixture.start({ cgroup });
		const task = request(['echo', 'kept']);
		const { result } = await run(fixture.host, task);
		const forgotten = await launched(fixture.host, request(['true']));
		await resultOf(fixture.host, forgotten);
		await fixture.host.forget(forgotten);
		await until(() => expect(readState(fixture.directory).tasks.has(`${forgotten.taskId}.1`)).toBe(false));
		await fixture.killHost();
		const host = await fixture.connect();
		expect(await resultOf(host, task)).toEqual(result);
		expect((await outputOf(host, task)).stdout.toString()).toBe('kept\n');
		expect(await host.result(forgotten)).toEqual({ kind: 'UNKNOWN' });
	});
});

it('kills no stranger: a pid that was given out again, and a record of another boot', async () => {
	await using fixture = await HostFixture.start();
	await fixture.killHost();
	const seconds = uniqueSeconds();
	const stranger = spawn('sleep', [seconds], { detached: true, stdio: 'ignore' });
	const ended = new Promise((resolve) => stranger.once('exit', resolve));
	const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
	const record = (taskId: string, boot: string, startTimeTicks: number) => {
		const key = { taskId, attempt: 1 };
		const started = { ...key, pid: stranger.pid ?? 0, startTimeTicks, bootId: boot, startedAtMs: 1 };
		const box = { limits: 'rlimit', containment: 'session', unenforced: [] } as const;
		const intent = { ...key, bootId: boot, atMs: 1, outputCapBytes: 4096 };
		return (
			encodeRecord({ kind: 'INTENT', intent }) + encodeRecord({ kind: 'STARTED', started: { ...started, ...box } })
		);
	};
	const startTicks = Number(readFileSync(`/proc/${stranger.pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19]);
	writeFileSync(
		join(fixture.directory, 'records.ndjson'),
		record('reused', bootId, startTicks - 1) + record('rebooted', 'another-boot', startTicks),
	);
	const host = await fixture.connect();
	expect(pidsWith(seconds)).toEqual([stranger.pid]);
	expect((await resultOf(host, { taskId: 'reused', attempt: 1 })).end).toEqual({ kind: 'HOST_DIED' });
	expect((await resultOf(host, { taskId: 'rebooted', attempt: 1 })).end).toEqual({ kind: 'HOST_REBOOTED' });
	stranger.kill('SIGKILL');
	await ended;
});

it('reports an attempt that only has an intent as one that may have started', async () => {
	await using fixture = await HostFixture.start();
	await fixture.killHost();
	const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
	const intent = { taskId: 'intended', attempt: 2, bootId, atMs: 1, outputCapBytes: 4096 };
	const torn = encodeRecord({ kind: 'REFUSED', key: intent }).slice(0, 30);
	writeFileSync(join(fixture.directory, 'records.ndjson'), encodeRecord({ kind: 'INTENT', intent }) + torn);
	const result = await resultOf(await fixture.connect(), intent);
	expect(result.end).toEqual({ kind: 'HOST_DIED' });
	expect(result.started).toBeUndefined();
});

it('refuses a second host on the same directory, and starters that race get the same one', async () => {
	await using fixture = await HostFixture.start();
	const second = spawn(process.execPath, [mainPath, fixture.directory], {
		stdio: 'ignore',
		env: { NODE_COMPILE_CACHE: compileCache },
	});
	expect(await new Promise((resolve) => second.once('exit', resolve))).toBe(75);
	expect((await run(fixture.host, request(['true']))).result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
	await fixture.killHost();
	const hosts = await Promise.all([fixture.connect(), fixture.connect(), fixture.connect()]);
	expect(new Set(hosts.map((host) => host.pid)).size).toBe(1);
	await until(() => expect(pidsWith(`main.ts\0${fixture.directory}`).length).toBe(1));
});

it('tells its connections that it is lost, and ends their calls', async () => {
	await using fixture = await HostFixture.start();
	const task = await launched(fixture.host, request(['sleep', uniqueSeconds()]));
	const attached = outputOf(fixture.host, task);
	attached.catch(() => undefined);
	const { host } = fixture;
	await fixture.killHost();
	expect(await host.closed).toMatchObject({ kind: 'LOST' });
	await expect(attached).rejects.toMatchObject({ code: 'UNAVAILABLE' });
	await expect(host.list()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
	await fixture.connect();
});

it('stops its tasks and records their results when it is asked to end', async () => {
	await using fixture = await HostFixture.start();
	const seconds = uniqueSeconds();
	const task = await launched(fixture.host, request(['sleep', seconds]));
	process.kill(fixture.host.pid, 'SIGTERM');
	await fixture.host.closed;
	expect(pidsWith(seconds)).toEqual([]);
	const result = readState(fixture.directory).tasks.get(`${task.taskId}.1`)?.result;
	expect(result).toMatchObject({ stoppedBy: 'SHUTDOWN', end: { kind: 'SIGNALED', signal: 'SIGTERM' } });
	await fixture.connect();
});

it('kills a host that is connected and silent, and starts the next one, which says what became of its tasks', async () => {
	await using fixture = await HostFixture.start();
	const seconds = uniqueSeconds();
	const wanted = await launched(fixture.host, request(['sleep', seconds]));
	const { pid } = fixture.host;
	process.kill(pid, 'SIGSTOP');
	const { directory } = fixture;
	// Its patience is over at once with the first, who never answers; the next one has all the time that it needs.
	let patient = false;
	const clock: Clock = {
		...systemClock,
		setTimer(callback, delayMs) {
			if (patient || delayMs < 1000) return systemClock.setTimer(callback, delayMs);
			patient = true;
			return systemClock.setTimer(callback, 0);
		},
	};
	const next = await startProcessHost({ directory, clock, compileCache });
	fixture.host = next;
	expect(next.pid).not.toBe(pid);
	expect(readFileSync(join(directory, 'host.log'), 'utf8')).toContain('said nothing for 15000 ms, so it was killed');
	expect((await resultOf(next, wanted)).end).toEqual({ kind: 'HOST_DIED' });
	await until(() => expect(pidsWith(seconds)).toEqual([]));
});
