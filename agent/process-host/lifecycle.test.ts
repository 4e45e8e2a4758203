import { spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { present } from '../../kit/assert.ts';
import type { HostEvent } from '../tasks/process-host.ts';
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
import { attachmentsMax } from './limits.ts';
import { readStat } from './proc.ts';

describe.each(['off', 'auto'] as const)('with cgroup %s', (cgroup) => {
	let fixture: HostFixture;
	beforeAll(async () => {
		fixture = await HostFixture.start({ cgroup });
	});
	afterAll(() => fixture[Symbol.asyncDispose]());

	const gone = (text: string) => until(() => expect(pidsWith(text)).toEqual([]));

	it('ends a task at its timeout, with its descendants', async () => {
		const seconds = uniqueSeconds();
		const argv = ['sh', '-c', `sleep ${seconds} & sleep ${seconds}`];
		const { result } = await run(fixture.host, request(argv, { timeoutMs: 200, graceMs: 5_000 }));
		expect(result).toMatchObject({ stoppedBy: 'TIMEOUT', end: { kind: 'SIGNALED', signal: 'SIGTERM' } });
		await gone(seconds);
	});

	it('cancels: SIGTERM first, so that a task may tidy up', async () => {
		const argv = ['sh', '-c', 'trap "echo tidy; exit 7" TERM; echo ready; while :; do sleep 0.05; done'];
		const wanted = await launched(fixture.host, request(argv));
		await firstOutput(fixture.host, wanted);
		expect(await fixture.host.cancel(wanted, 30_000)).toBe('STOPPING');
		const { stdout } = await outputOf(fixture.host, wanted);
		expect(stdout.toString()).toBe('ready\ntidy\n');
		const result = await resultOf(fixture.host, wanted);
		expect(result).toMatchObject({ stoppedBy: 'CANCEL', end: { kind: 'EXITED', exitCode: 7 } });
		expect(await fixture.host.cancel(wanted, 0)).toBe('ALREADY_ENDED');
	});

	it('escalates to SIGKILL against a task that ignores SIGTERM, and its child in a group of its own', async () => {
		const seconds = uniqueSeconds();
		// `set -m` gives the background job its own process group; both ignore SIGTERM.
		const argv = [
			'bash',
			'-c',
			`trap "" TERM; set -m; sleep ${seconds} & echo ready; while :; do sleep ${seconds}; done`,
		];
		const wanted = await launched(fixture.host, request(argv));
		await until(() => expect(pidsWith(`sleep\0${seconds}`).length).toBe(2));
		await fixture.host.cancel(wanted, 60_000);
		expect((await fixture.host.result(wanted)).kind).toBe('NOT_ENDED');
		await fixture.host.cancel(wanted, 50);
		const result = await resultOf(fixture.host, wanted);
		expect(result).toMatchObject({ stoppedBy: 'CANCEL', end: { kind: 'SIGNALED', signal: 'SIGKILL' } });
		await gone(seconds);
	});

	it('cancels a stopped task', async () => {
		const argv = ['sh', '-c', 'kill -STOP $$; sleep 1000'];
		const wanted = await launched(fixture.host, request(argv));
		const status = (await fixture.host.list()).find(({ taskId }) => taskId === wanted.taskId);
		const { pid } = present(status?.started, 'it was launched');
		await until(() => expect(readStat(pid)?.state).toBe('T'));
		await fixture.host.cancel(wanted, 30_000);
		expect((await resultOf(fixture.host, wanted)).end).toEqual({ kind: 'SIGNALED', signal: 'SIGTERM' });
	});

	it('kills background children when the leader exits, and does not wait for their pipe', async () => {
		const seconds = uniqueSeconds();
		const { stdout, result } = await run(fixture.host, request(['sh', '-c', `sleep ${seconds} & echo done`]));
		expect(stdout.toString()).toBe('done\n');
		expect(result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
		await gone(seconds);
	});

	it('finds a child that left the group and closed its output', async () => {
		const seconds = uniqueSeconds();
		const argv = ['bash', '-c', `set -m; sleep ${seconds} > /dev/null 2>&1 & disown; exit 0`];
		expect((await run(fixture.host, request(argv))).result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
		await gone(seconds);
	});

	it('finds a child in a session of its own that holds the output', async () => {
		const seconds = uniqueSeconds();
		const argv = ['sh', '-c', `setsid sleep ${seconds} & exec sleep 0.1`];
		const { result } = await run(fixture.host, request(argv));
		expect(result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
		await gone(seconds);
	});

	it('runs 100 tasks at once, each with its own output and result', async () => {
		const events: HostEvent[] = [];
		const unsubscribe = fixture.host.subscribe((event) => events.push(event));
		const ids = Array.from({ length: 100 }, (_, index) => index);
		const outputs = await Promise.all(
			ids.map(async (id) => {
				const wanted = request(['sh', '-c', `echo ${id}; echo e${id} >&2; exit ${id % 5}`], { taskId: `many-${id}` });
				return run(fixture.host, wanted);
			}),
		);
		expect(outputs.map(({ stdout }) => stdout.toString())).toEqual(ids.map((id) => `${id}\n`));
		expect(outputs.map(({ stderr }) => stderr.toString())).toEqual(ids.map((id) => `e${id}\n`));
		expect(outputs.map(({ result }) => result.end)).toEqual(ids.map((id) => ({ kind: 'EXITED', exitCode: id % 5 })));
		unsubscribe();
		const told = (kind: string) => events.filter((event) => event.kind === kind).length;
		expect([told('STARTED'), told('ENDED')]).toEqual([100, 100]);
	});
});

it('finds even a daemon where a cgroup contains it, and says so where none does', async () => {
	await using fixture = await HostFixture.start();
	const isContained = fixture.host.capabilities.containment === 'cgroup2';
	const seconds = uniqueSeconds();
	const argv = ['sh', '-c', `setsid sleep ${seconds} < /dev/null > /dev/null 2>&1 & exec sleep 0.1`];
	const { result } = await run(fixture.host, request(argv));
	expect(result.usage.cpuSource === 'cgroup2').toBe(isContained);
	expect(result.started?.containment).toBe(isContained ? 'cgroup2' : 'session');
	if (isContained) await until(() => expect(pidsWith(seconds)).toEqual([]));
	for (const pid of pidsWith(seconds)) process.kill(pid, 'SIGKILL');
});

describe('output', () => {
	let fixture: HostFixture;
	beforeAll(async () => {
		fixture = await HostFixture.start();
	});
	afterAll(() => fixture[Symbol.asyncDispose]());

	it('keeps head and tail at the cap, counts the rest, and never blocks the task', async () => {
		const outputCapBytes = 1 << 20;
		const argv = ['sh', '-c', 'seq 1 1000000; echo the end'];
		const wanted = await launched(fixture.host, request(argv, { outputCapBytes }));
		const result = await resultOf(fixture.host, wanted);
		const { records, stdout } = await outputOf(fixture.host, wanted);
		const whole = Buffer.from(`${Array.from({ length: 1_000_000 }, (_, index) => `${index + 1}\n`).join('')}the end\n`);
		expect(result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
		expect(result.output.written?.stdout.bytes).toBe(whole.length);
		expect(result.output.droppedBytes).toBe(whole.length - stdout.length);
		expect(stdout.length).toBeLessThanOrEqual(outputCapBytes);
		expect(stdout.length).toBeGreaterThan(outputCapBytes * 0.9);
		const gaps = records.filter((record) => record.kind === 'GAP');
		expect(gaps.length).toBe(1);
		const [gap] = gaps;
		if (gap === undefined) throw new Error('no gap');
		expect(stdout.subarray(0, gap.offset).equals(whole.subarray(0, gap.offset))).toBe(true);
		expect(stdout.subarray(gap.offset).equals(whole.subarray(gap.offset + gap.droppedBytes))).toBe(true);
		expect(gap.offset).toBeGreaterThan(outputCapBytes * 0.49);
		expect(stdout.length - gap.offset).toBeGreaterThan(outputCapBytes * 0.4);
		expect(stdout.subarray(-8).toString()).toBe('the end\n');
		expect(records.at(-1)).toEqual({ kind: 'END', offset: whole.length });
	});

	it('is read again from any offset, live and later', async () => {
		const argv = ['sh', '-c', 'echo 0123456789; cat > /dev/null; echo abcdefghij'];
		const wanted = await launched(fixture.host, request(argv, { stdin: Buffer.from('x') }));
		const live = await outputOf(fixture.host, wanted, 5);
		expect(live.stdout.toString()).toBe('56789\nabcdefghij\n');
		for (const from of [0, 1, 10, 11, 12, 21]) {
			const again = await outputOf(fixture.host, wanted, from);
			expect(again.stdout.toString()).toBe('0123456789\nabcdefghij\n'.slice(from));
			expect(again.records.at(-1)).toEqual({ kind: 'END', offset: 22 });
		}
		expect((await outputOf(fixture.host, wanted, 22)).records).toEqual([{ kind: 'END', offset: 22 }]);
	});

	it('waits for a slow reader without holding up the task or other readers', async () => {
		const bytes = 8 << 20;
		const argv = ['head', '-c', String(bytes), '/dev/zero'];
		const wanted = request(argv, { outputCapBytes: 32 << 20 });
		await launched(fixture.host, wanted);
		const slow = fixture.host.attach(wanted, 0)[Symbol.asyncIterator]();
		const first = await slow.next();
		const { result } = { result: await resultOf(fixture.host, wanted) };
		expect(result.output.totalBytes).toBe(bytes);
		expect((await outputOf(fixture.host, wanted)).stdout.length).toBe(bytes);
		let read = first.value?.kind === 'DATA' ? first.value.bytes.length : 0;
		for (let next = await slow.next(); !next.done; next = await slow.next()) {
			if (next.value.kind === 'DATA') read += next.value.bytes.length;
		}
		expect(read).toBe(bytes);
	});

	it('can be left in the middle', async () => {
		const argv = ['head', '-c', String(4 << 20), '/dev/zero'];
		const wanted = await launched(fixture.host, request(argv, { outputCapBytes: 32 << 20 }));
		for await (const record of fixture.host.attach(wanted, 0)) if (record.kind === 'DATA') break;
		expect((await outputOf(fixture.host, wanted)).stdout.length).toBe(4 << 20);
	});

	it('is left at once by readers of a silent task: as many as there is room for leave it to the next', async () => {
		const wanted = await launched(fixture.host, request(['sh', '-c', 'echo ready; exec sleep 60']));
		for (let left = 0; left <= attachmentsMax; left += 1) {
			const records = fixture.host.attach(wanted, 0)[Symbol.asyncIterator]();
			expect((await records.next()).value).toMatchObject({ kind: 'DATA' });
			const waiting = records.next();
			await records.return?.();
			expect((await waiting).done).toBe(true);
		}
		await fixture.host.cancel(wanted, 0);
	});

	it('survives the death of the agent: the task runs on, and another agent finds all of it', async () => {
		// The agent starts the host itself.
		await using own = await HostFixture.start();
		await own.killHost();
		const wanted = request(['sh', '-c', 'echo before; while [ ! -e "$GO" ]; do sleep 0.05; done; echo after'], {
			taskId: 'survivor',
			env: { PATH: '/usr/bin:/bin', GO: `${own.directory}/go` },
		});
		const script = `
			const { startProcessHost } = await import(${JSON.stringify(new URL('./start.ts', import.meta.url).href)});
			const { systemClock } = await import(${JSON.stringify(new URL('../../kit/clock.ts', import.meta.url).href)});
			const host = await startProcessHost({ directory: ${JSON.stringify(own.directory)}, clock: systemClock });
			await host.launch(${JSON.stringify(wanted)});
			for await (const record of host.attach({ taskId: 'survivor', attempt: 1 }, 0)) console.log(record.kind);
		`;
		const agent = spawn(process.execPath, ['--input-type=module', '-e', script], {
			stdio: ['ignore', 'pipe', 'inherit'],
			env: { NODE_COMPILE_CACHE: compileCache },
			detached: true,
		});
		await new Promise((resolve) => agent.stdout.once('data', resolve));
		const ended = new Promise((resolve) => agent.once('exit', resolve));
		// With everybody in its group, as a terminal or a shell would.
		process.kill(-(agent.pid ?? 0), 'SIGKILL');
		await ended;
		const host = await own.connect();
		const status = (await host.list()).find((each) => each.taskId === 'survivor');
		expect(status).toMatchObject({ phase: 'RUNNING', outputBytes: 7 });
		await launched(host, request(['touch', `${own.directory}/go`]));
		expect((await outputOf(host, wanted, 7)).stdout.toString()).toBe('after\n');
		expect((await resultOf(host, wanted)).end).toEqual({ kind: 'EXITED', exitCode: 0 });
	});
});
