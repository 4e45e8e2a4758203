import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
	HostFixture,
	launched,
	outputOf,
	PATH,
	pidsWith,
	request,
	resultOf,
	run,
	uniqueSeconds,
	until,
} from './host-fixture.ts';
import { readState } from './state.ts';

let fixture: HostFixture;
beforeAll(async () => {
	fixture = await HostFixture.start();
});
afterAll(() => fixture[Symbol.asyncDispose]());

const isRoot = process.getuid?.() === 0;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

function statusFields(pid: number, names: readonly string[]): Record<string, string> {
	const text = readFileSync(`/proc/${pid}/status`, 'utf8');
	return Object.fromEntries(
		names.map((name) => [name, new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1]?.trim() ?? '']),
	);
}

describe('a launch', () => {
	it('keeps stdout and stderr apart, with the exit code and digests of what was written', async () => {
		const { stdout, stderr, result } = await run(fixture.host, request(['sh', '-c', 'echo out; echo err >&2; exit 3']));
		expect(stdout.toString()).toBe('out\n');
		expect(stderr.toString()).toBe('err\n');
		expect(result.end).toEqual({ kind: 'EXITED', exitCode: 3 });
		expect(result.output.written?.stdout).toEqual({ bytes: 4, sha256: sha256(stdout) });
		expect(result.output.kept.stderr).toEqual({ bytes: 4, sha256: sha256(stderr) });
		expect(result.output).toMatchObject({ totalBytes: 8, droppedBytes: 0 });
	});

	it('gives exactly the environment that was asked for', async () => {
		const env = { ZERO: '', 'odd.name-é': 'a=b\nc', LD_LIBRARY_PATH: '/nowhere', TZ: 'UTC', SECRET: 'x'.repeat(1000) };
		const { stdout } = await run(fixture.host, request(['/usr/bin/env', '-0'], { env }));
		const seen = Object.fromEntries(
			stdout
				.toString()
				.split('\0')
				.filter((entry) => entry !== '')
				.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
		);
		expect(seen).toEqual(env);
		expect((await run(fixture.host, request(['/usr/bin/env', '-0'], { env: {} }))).stdout.toString()).toBe('');
	});

	it('feeds stdin and ends it; without stdin there is nothing to read', async () => {
		const stdin = Buffer.alloc(1 << 20, 'stdin bytes\n');
		const { stdout } = await run(fixture.host, request(['cat'], { stdin, outputCapBytes: 8 << 20 }));
		expect(sha256(stdout)).toBe(sha256(stdin));
		expect((await run(fixture.host, request(['cat']))).stdout.length).toBe(0);
		expect((await run(fixture.host, request(['true'], { stdin }))).result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
	});

	it('passes every byte value through', async () => {
		const stdin = Buffer.from(Array.from({ length: 65_536 }, (_, index) => (index * 7) % 256));
		const { stdout } = await run(fixture.host, request(['cat'], { stdin }));
		expect(stdout.equals(stdin)).toBe(true);
	});

	it('gives pipes that can be opened by name', async () => {
		const { stdout, stderr } = await run(
			fixture.host,
			request(['sh', '-c', 'echo a > /dev/stdout; echo b > /dev/stderr']),
		);
		expect([stdout.toString(), stderr.toString()]).toEqual(['a\n', 'b\n']);
	});

	it('sets directory, umask and limits, and an umask of 022 when none is asked for', async () => {
		const limits = { cpuSeconds: 7, openFiles: 64, addressSpaceBytes: 2 ** 30 };
		const script = 'pwd; umask; ulimit -t; ulimit -n; ulimit -v';
		const asked = await run(fixture.host, request(['sh', '-c', script], { cwd: '/usr', umask: 0o27, limits }));
		expect(asked.stdout.toString().split('\n')).toEqual(['/usr', '0027', '7', '64', String(2 ** 20), '']);
		expect((await run(fixture.host, request(['sh', '-c', 'umask']))).stdout.toString()).toBe('0022\n');
	});

	it('says which limits it cannot enforce', async () => {
		const wanted = await launched(
			fixture.host,
			request(['true'], { limits: { cpuQuota: 0.5, memoryBytes: 64 << 20 } }),
		);
		const { started } = await resultOf(fixture.host, wanted);
		expect(started?.unenforced).toEqual(fixture.host.capabilities.limits === 'cgroup2' ? [] : ['cpuQuota']);
	});

	it('bounds memory', async () => {
		// A string of 256 MiB, under a limit of 64 MiB.
		const argv = ['sh', '-c', 'x=$(head -c 268435456 /dev/zero | tr "\\0" x); echo survived'];
		const { stdout, result } = await run(fixture.host, request(argv, { limits: { memoryBytes: 64 << 20 } }));
		expect(stdout.toString()).not.toContain('survived');
		expect(result.end).not.toEqual({ kind: 'EXITED', exitCode: 0 });
	});

	it('reports the signal that ended the task', async () => {
		const { result } = await run(fixture.host, request(['sh', '-c', 'kill -SEGV $$']));
		expect(result.end).toEqual({ kind: 'SIGNALED', signal: 'SIGSEGV' });
		expect(result.stoppedBy).toBe('NONE');
	});

	it('sees the real-time signals that Node takes for an exit code of 0, also when 200 end at once', async () => {
		const sleeper = uniqueSeconds();
		// Half of them hold no output: nothing but their end tells of it.
		const scripts = [`exec sleep ${sleeper}`, `exec >/dev/null 2>&1; exec sleep ${sleeper}`];
		const keys = await Promise.all(
			Array.from({ length: 200 }, (_, index) =>
				launched(fixture.host, request(['sh', '-c', scripts[index % 2] ?? ''], { outputCapBytes: 4096 })),
			),
		);
		const pids = await until(() => {
			const found = pidsWith(`sleep\0${sleeper}`);
			expect(found).toHaveLength(200);
			return found;
		});
		const last = run(fixture.host, request(['sh', '-c', `kill -37 ${pids.join(' ')} $$`]));
		const ends = await Promise.all(keys.map(async (key) => (await resultOf(fixture.host, key)).end));
		expect(ends).toEqual(ends.map(() => ({ kind: 'SIGNALED', signal: 'SIG37' })));
		expect((await last).result.end).toEqual({ kind: 'SIGNALED', signal: 'SIG37' });
		const { result } = await run(fixture.host, request(['sh', '-c', 'exec >&- 2>&-; exit 0']));
		expect(result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
	});

	it('always runs without new privileges, in a session of its own, and dies with its host', async () => {
		const wanted = await launched(fixture.host, request(['setpriv', '--dump']));
		const { stdout } = await outputOf(fixture.host, wanted);
		expect(stdout.toString()).toMatch(/no_new_privs: 1/);
		expect(stdout.toString()).toMatch(/Parent death signal: KILL/);
		const { stdout: ids } = await run(fixture.host, request(['sh', '-c', 'echo $$; ps -o sid=,pgid= -p $$']));
		const [pid, sid, pgid] = ids.toString().trim().split(/\s+/);
		expect([sid, pgid]).toEqual([pid, pid]);
	});

	it('writes no secret into its records', async () => {
		const secret = `s3cret-${uniqueSeconds()}`;
		await run(fixture.host, request(['cat'], { env: { PATH, TOKEN: secret }, stdin: Buffer.from(secret) }));
		expect(readFileSync(join(fixture.directory, 'records.ndjson'), 'latin1')).not.toContain(secret);
		expect(readFileSync(join(fixture.directory, 'host.log'), 'latin1')).not.toContain(secret);
	});
});

describe.runIf(isRoot)('a launch as another user', () => {
	const user = 'nobody';

	it('has that user, exactly its groups, no capabilities, and no new privileges', async () => {
		const wanted = await launched(fixture.host, request(['sleep', uniqueSeconds()], { user }));
		const pid = (await fixture.host.list()).find((each) => each.taskId === wanted.taskId)?.started?.pid ?? 0;
		await until(() => expect(readFileSync(`/proc/${pid}/comm`, 'utf8')).toBe('sleep\n'));
		const { stdout } = await run(fixture.host, request(['id', '-G', user]));
		const none = '0000000000000000';
		expect(
			statusFields(pid, ['Uid', 'Groups', 'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs']),
		).toEqual({
			Uid: '65534\t65534\t65534\t65534',
			Groups: stdout.toString().trim(),
			CapInh: none,
			CapPrm: none,
			CapEff: none,
			CapBnd: none,
			CapAmb: none,
			NoNewPrivs: '1',
		});
		await fixture.host.cancel(wanted, 0);
	});

	it('lets no variable of the task reach the wrappers that run as root', async () => {
		// Were LD_DEBUG seen by setpriv, the loader would write as root into the given file.
		const folder = join(fixture.directory, 'evil');
		mkdirSync(folder, { mode: 0o700 });
		const env = { PATH, LD_DEBUG: 'files', LD_DEBUG_OUTPUT: join(folder, 'trace'), MARK: 'kept' };
		const { stdout } = await run(fixture.host, request(['sh', '-c', 'echo $MARK $LD_DEBUG'], { user, env }));
		// The task itself has it: its own loader can't open that file, and traces to its output.
		expect(stdout.toString()).toMatch(/kept files\n$/);
		const { stdout: files } = await run(fixture.host, request(['ls', folder]));
		expect(files.toString()).toBe('');
	});

	it('enters its working directory as that user, and learns nothing of what it may not see', async () => {
		// Root's alone, as the host's own folder is.
		const home = join(fixture.directory, 'home');
		mkdirSync(home, { mode: 0o755 });
		writeFileSync(join(home, 'tool'), '#!/bin/sh\n', { mode: 0o755 });
		const start = async (argv: readonly string[], cwd = '/') => {
			const { result, stderr, stdout } = await run(fixture.host, request(argv, { user, cwd }));
			const text = stderr.toString().replaceAll(cwd === '/' ? (argv[0] ?? '') : cwd, 'IT');
			return { end: result.end, text, out: stdout.toString() };
		};
		const there = await start(['pwd'], home);
		expect(there).toMatchObject({ end: { exitCode: 125 }, text: expect.stringMatching(/IT.*Permission denied/) });
		expect(await start(['pwd'], `${home}less`)).toEqual(there);
		expect(await start(['./tool'], home)).toEqual(there);
		const tool = await start([join(home, 'tool')]);
		expect(tool).toMatchObject({ end: { kind: 'EXITED' }, text: expect.stringMatching(/IT.*Permission denied/) });
		expect(await start([join(home, 'none')])).toEqual(tool);
		expect((await start(['pwd'], '/usr')).out).toBe('/usr\n');
	});

	it('can open its own output by name', async () => {
		const { stdout } = await run(fixture.host, request(['sh', '-c', 'id -u > /dev/stdout'], { user }));
		expect(stdout.toString()).toBe('65534\n');
	});

	it('still dies with its host', async () => {
		const { stdout } = await run(fixture.host, request(['setpriv', '--dump'], { user }));
		expect(stdout.toString()).toMatch(/Parent death signal: KILL/);
	});
});

describe('a refused launch', () => {
	const refusedWith = async (more: Partial<Parameters<typeof request>[1]>, argv: readonly string[] = ['true']) => {
		const outcome = await fixture.host.launch(request(argv, more));
		return outcome.kind === 'REFUSED' ? outcome.reason : outcome.kind;
	};

	it('names the reason, and leaves nothing', async () => {
		const notExecutable = join(fixture.directory, 'plain');
		writeFileSync(notExecutable, 'text', { mode: 0o644 });
		expect(await refusedWith({}, ['no-such-command'])).toBe('COMMAND_NOT_FOUND');
		expect(await refusedWith({}, ['/no/such/command'])).toBe('COMMAND_NOT_FOUND');
		expect(await refusedWith({ env: { PATH: '/nowhere' } })).toBe('COMMAND_NOT_FOUND');
		expect(await refusedWith({}, [notExecutable])).toBe('COMMAND_NOT_EXECUTABLE');
		expect(await refusedWith({}, ['/usr'])).toBe('COMMAND_NOT_EXECUTABLE');
		expect(await refusedWith({ cwd: '/no/such/folder' })).toBe('CWD_MISSING');
		expect(await refusedWith({ cwd: '/etc/passwd' })).toBe('CWD_MISSING');
		expect(await refusedWith({ user: 'no-such-user' })).toBe('USER_UNKNOWN');
		expect(await refusedWith({}, ['true', 'x'.repeat(128 << 10)])).toBe('ARGUMENTS_TOO_LARGE');
		expect(await refusedWith({}, ['true', ...Array.from({ length: 30 }, () => 'x'.repeat(100_000))])).toBe(
			'ARGUMENTS_TOO_LARGE',
		);
		expect((await fixture.host.list()).filter((each) => each.phase !== 'ENDED')).toEqual([]);
	});

	it.each<[string, object]>([
		['an id with a slash', { taskId: '../x' }],
		['a negative attempt', { attempt: -1 }],
		['no command', { argv: [] }],
		['a NUL in argv', { argv: ['true', 'a\0b'] }],
		['a NUL in env', { env: { A: 'a\0b' } }],
		['a name with =', { env: { 'A=B': 'c' } }],
		['a relative cwd', { cwd: 'tmp' }],
		['a user with options', { user: '--reset-env' }],
		['a timeout of 0', { timeoutMs: 0 }],
		['an endless timeout', { timeoutMs: 2 ** 40 }],
		['no cap', { outputCapBytes: 0 }],
		['an unknown limit', { limits: { magic: 1 } }],
		['a limit of NaN', { limits: { openFiles: null } }],
		['too much stdin', { stdin: Buffer.alloc((1 << 20) + 1) }],
	])('refuses %s', async (_name, more) => {
		expect(await refusedWith(more as Parameters<typeof refusedWith>[0])).toBe('INVALID_REQUEST');
	});

	it('may be tried again with the same attempt', async () => {
		const wanted = request(['true'], { user: 'no-such-user' });
		expect(await fixture.host.launch(wanted)).toMatchObject({ kind: 'REFUSED' });
		const { user: _user, ...corrected } = wanted;
		expect((await run(fixture.host, corrected)).result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
	});
});

describe('an attempt', () => {
	it('has its effect once, however often it is launched', async () => {
		const file = join(fixture.directory, 'effects');
		const wanted = request(['sh', '-c', `echo x >> ${file}`]);
		const outcomes = await Promise.all([1, 2, 3].map(() => fixture.host.launch(wanted)));
		expect(outcomes.map((outcome) => outcome.kind).sort()).toEqual(['DUPLICATE', 'DUPLICATE', 'STARTED']);
		await resultOf(fixture.host, wanted);
		expect(await fixture.host.launch(wanted)).toMatchObject({ kind: 'DUPLICATE', status: { phase: 'ENDED' } });
		expect(readFileSync(file, 'utf8')).toBe('x\n');
	});

	it('is on disk before it is announced, and gone after it is forgotten', async () => {
		const wanted = request(['echo', 'hello']);
		const outcome = await fixture.host.launch(wanted);
		const id = `${wanted.taskId}.1`;
		expect(readState(fixture.directory).tasks.get(id)?.started).toEqual(outcome.kind === 'STARTED' && outcome.started);
		const result = await resultOf(fixture.host, wanted);
		expect(readState(fixture.directory).tasks.get(id)?.result).toEqual(result);
		expect(await fixture.host.forget(wanted)).toBe('FORGOTTEN');
		expect(await fixture.host.forget(wanted)).toBe('UNKNOWN');
		expect(await fixture.host.result(wanted)).toEqual({ kind: 'UNKNOWN' });
		await expect(outputOf(fixture.host, wanted)).rejects.toMatchObject({ code: 'NOT_FOUND' });
		await until(() => expect(readState(fixture.directory).tasks.has(id)).toBe(false));
	});
});
