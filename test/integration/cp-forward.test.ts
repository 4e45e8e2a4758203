import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
	chmodSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	utimesSync,
	writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { readListeners } from '../../agent/forward/listeners.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { giveToNobody, HelperFiles } from './helper-files.ts';
import { killQuietly, processes, UpWorld } from './up-world.ts';

/** `gpuaas cp` and `gpuaas forward` against the whole product, as a person uses them. */
const world = new UpWorld();
const node = hostname();
const isRoot = process.getuid?.() === 0;
let here = '';
let there = '';
beforeAll(async () => {
	await world.up();
	here = join(world.root, 'here');
	// The account of the node is another than the person here; it may not look into the world's own folder.
	there = `${world.root}-there`;
});
afterAll(() => world[Symbol.asyncDispose]());
afterEach(() => {
	rmSync(here, { recursive: true, force: true });
	rmSync(there, { recursive: true, force: true });
});

function fresh(): void {
	for (const folder of [here, there]) mkdirSync(folder);
	if (isRoot) giveToNobody(there);
}

async function audited(action: string): Promise<readonly { result: string }[]> {
	const { records } = await world.json<{ records: { action: string; result: string }[] }>(
		'audit',
		'list',
		'--action',
		action,
	);
	return records;
}

describe('cp', () => {
	test('a file goes there and back with its bytes, permissions and time', async () => {
		fresh();
		const bytes = Buffer.from(Array.from({ length: 1_500_000 }, (_, index) => (index * 31) & 0xff));
		writeFileSync(join(here, 'a'), bytes);
		chmodSync(join(here, 'a'), 0o640);
		utimesSync(join(here, 'a'), 1_700_000_000, 1_700_000_000);
		const up = await world.run('cp', join(here, 'a'), `${node}:${there}/`);
		expect(up).toMatchObject({ code: 0, stderr: expect.stringContaining('1 copied (1.5 MB)') });
		const copied = statSync(join(there, 'a'));
		expect([readFileSync(join(there, 'a')).equals(bytes), copied.mode & 0o777, copied.mtimeMs]).toEqual([
			true,
			0o640,
			1_700_000_000_000,
		]);
		const down = await world.json<{ files: number }>('cp', `${node}:${there}/a`, join(here, 'b'));
		expect([down.files, readFileSync(join(here, 'b')).equals(bytes)]).toEqual([1, true]);
		expect((await audited('files.write')).length).toBeGreaterThan(0);
		expect((await audited('files.read')).length).toBeGreaterThan(0);
	});

	test('a folder goes with all in it; a second run finds it done; what differs is not replaced without --force', async () => {
		fresh();
		mkdirSync(join(here, 'd', 'sub'), { recursive: true });
		for (const name of ['one', 'sub/two']) writeFileSync(join(here, 'd', name), name);
		symlinkSync('one', join(here, 'd', 'link'));
		expect(await world.run('cp', join(here, 'd'), `${node}:${there}`)).toMatchObject({
			code: 1,
			stderr: expect.stringContaining('--recursive'),
		});
		expect((await world.run('cp', '-r', join(here, 'd'), `${node}:${there}`)).code).toBe(0);
		expect(readdirSync(join(there, 'd'), { recursive: true }).map(String).sort()).toEqual([
			'link',
			'one',
			'sub',
			'sub/two',
		]);
		expect((await world.run('cp', '-r', join(here, 'd'), `${node}:${there}`)).stderr).toContain('2 there already');
		writeFileSync(join(there, 'd', 'one'), 'changed there');
		const refused = await world.run('cp', '-r', join(here, 'd'), `${node}:${there}`);
		expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--force') });
		expect(readFileSync(join(there, 'd', 'one'), 'utf8')).toBe('changed there');
		expect((await world.run('cp', '-rf', join(here, 'd'), `${node}:${there}`)).code).toBe(0);
		expect(readFileSync(join(there, 'd', 'one'), 'utf8')).toBe('one');
	});

	const BIG_BYTES = 192 * 1024 * 1024;

	/** Starts an upload of much, and does `strike` once some of it is there. */
	async function struck(strike: (command: ChildProcess) => void) {
		fresh();
		writeFileSync(join(here, 'big'), Buffer.alloc(BIG_BYTES, 'ab'));
		const isThere = (bytes: number) => readdirSync(there).some((name) => statSync(join(there, name)).size > bytes);
		for (;;) {
			const command = world.start(['cp', join(here, 'big'), `${node}:${there}/big`]);
			await eventually('some of it is there', () => isThere(4 * 1024 * 1024));
			strike(command.child);
			if (!isThere(BIG_BYTES - 32 * 1024 * 1024)) return command;
			// It was at its end meanwhile: once more.
			await command.ended;
			for (const name of readdirSync(there)) rmSync(join(there, name));
		}
	}

	test('a killed command leaves nothing half-written, and the next run goes on where it stopped', async () => {
		const command = await struck((child) => child.kill('SIGKILL'));
		await command.ended;
		expect(existsSync(join(there, 'big'))).toBe(false);
		// On a busy machine it takes the server longer than the next command would wait (cli/copy/abandoned.ts).
		await eventually('it is seen that nobody is there', async () => {
			const open = await world.json<{ terminals: { viewers?: number }[] }>('terminal', 'list', '-n', node);
			return open.terminals.every(({ viewers = 0 }) => viewers === 0);
		});
		const again = await world.json<{ files: number; bytes: number }>('cp', join(here, 'big'), `${node}:${there}/big`);
		expect(again.files).toBe(1);
		expect(again.bytes).toBeLessThan(190 * 1024 * 1024);
		expect(readFileSync(join(there, 'big')).equals(readFileSync(join(here, 'big')))).toBe(true);
		expect(readdirSync(there)).toEqual(['big']);
	});

	test('an agent that is killed in the middle is not even noticed', async () => {
		const command = await struck(() => {
			for (const pid of world.pids('agent/main')) killQuietly(pid);
		});
		expect((await command.ended).code).toBe(0);
		expect(readFileSync(join(there, 'big')).equals(readFileSync(join(here, 'big')))).toBe(true);
	});

	test('a control plane that is killed in the middle costs no byte either', async () => {
		const command = await struck(() => {
			for (const pid of world.pids('control-plane/main')) killQuietly(pid);
		});
		expect(await command.ended).toMatchObject({ code: 0 });
		expect(readFileSync(join(there, 'big')).equals(readFileSync(join(here, 'big')))).toBe(true);
		expect(readdirSync(there)).toEqual(['big']);
	});

	test.each([
		[['a', 'b'], 2, 'NODE:PATH'],
		[[`${node}:/a`, `${node}:/b`], 2, 'one side must be here'],
		[['/nowhere/at/all', `${node}:/tmp/x`], 1, 'there is no /nowhere'],
		[[`${node}:/nowhere/at/all`, '/tmp/x'], 1, 'there is no /nowhere'],
		[['/etc/hostname', 'nonode:/tmp/x'], 1, 'no such node'],
	])('%j is refused with what to do', async (argv, code, says) => {
		expect(await world.run('cp', ...argv)).toMatchObject({ code, stderr: expect.stringContaining(says) });
	});
});

describe.skipIf(lacks('curl', 'python3'))('forward', () => {
	const started: ChildProcess[] = [];
	const helpers = new HelperFiles();
	afterEach(() => {
		for (const child of started.splice(0)) child.kill('SIGKILL');
	});

	async function webServer(as: 'account' | 'other' = 'account'): Promise<number> {
		const argv = ['-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', '/usr/share'];
		const child = as === 'account' && isRoot ? helpers.asNobody(['python3', ...argv]) : spawn('python3', argv);
		started.push(child);
		const [line] = (await once(child.stdout, 'data')) as [Buffer];
		return Number(/port (\d+)/.exec(String(line))?.[1]);
	}

	async function forwarded(
		...specs: string[]
	): Promise<{ ports: number[]; child: ChildProcess; ended: Promise<{ code: number | null; stderr: string }> }> {
		const command = world.start(['forward', node, ...specs, '--json']);
		started.push(command.child);
		const ports: number[] = [];
		for (let index = 0; index < specs.length; index += 1) {
			const line = await command.line(
				(text) => text.includes('listening') && !ports.some((port) => text.includes(`"port":${port}}`)),
			);
			ports.push((JSON.parse(line) as { listening: { port: number } }).listening.port);
		}
		return { ports, child: command.child, ended: command.ended };
	}

	async function curl(url: string): Promise<{ code: number; out: string }> {
		const child = spawn('curl', ['--silent', '--max-time', '20', url]);
		let out = '';
		child.stdout.on('data', (data: Buffer) => {
			out += data.toString('latin1');
		});
		const [code] = (await once(child, 'close')) as [number];
		return { code, out };
	}

	test('curl reads a server on the node, many at once; Ctrl-C ends it and leaves nothing', async () => {
		const { ports, child, ended } = await forwarded(`0:${await webServer()}`);
		// Nobody else on the network reads it.
		const open = readListeners().filter(({ port }) => port === Number(ports[0]));
		expect(open.map(({ address }) => address)).toEqual(['127.0.0.1']);
		const pages = await Promise.all(Array.from({ length: 10 }, () => curl(`http://127.0.0.1:${ports[0]}/`)));
		expect(pages.map(({ code, out }) => code === 0 && out.includes('Directory listing'))).toEqual(Array(10).fill(true));
		expect((await audited('ports.forward')).length).toBeGreaterThan(0);
		// A browser keeps its connection open: that must not keep the command.
		const browser = connect({ port: Number(ports[0]), host: '127.0.0.1' });
		browser.on('error', () => {});
		await once(browser, 'connect');
		const helper = await world.helper('forward');
		child.kill('SIGINT');
		expect((await ended).code).toBe(0);
		await eventually('the helper is gone', () => !existsSync(`/proc/${helper}`));
	});

	/** One of this world's pty host, or of nobody any more: other worlds may be beside this one. */
	function helperRuns(): boolean {
		const parents = [1, ...world.pids('pty-host/main')];
		return processes()
			.filter(({ line }) => line.includes('agent/forward/main'))
			.some(({ pid }) => parents.includes(parentOf(pid) ?? -1));
	}

	/** Undefined once it has ended. */
	function parentOf(pid: number): number | undefined {
		try {
			return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
		} catch {
			return undefined;
		}
	}

	test('what the policy does not list is refused, and why is said', async () => {
		const { ports, child, ended } = await forwarded('0:169.254.169.254:80');
		expect((await curl(`http://127.0.0.1:${ports[0]}/`)).code).not.toBe(0);
		child.kill('SIGINT');
		expect((await ended).stderr).toMatch(/never forwarded to/);
	});

	test.runIf(isRoot)("another account's server is not reached", async () => {
		const { ports, child, ended } = await forwarded(`0:${await webServer('other')}`);
		expect((await curl(`http://127.0.0.1:${ports[0]}/`)).code).not.toBe(0);
		child.kill('SIGINT');
		expect((await ended).stderr).toMatch(/nothing that this account started listens/);
	});

	test('a port that is taken here, and words that are no port, are refused, and nothing stays open', async () => {
		const port = await webServer();
		expect(await world.run('forward', node, `${port}:1`)).toMatchObject({
			code: 1,
			stderr: expect.stringContaining('is in use'),
		});
		expect(await world.run('forward', node, `0:${port}`, `${port}:1`)).toMatchObject({
			code: 1,
			stderr: expect.stringContaining('is in use'),
		});
		await eventually('the helpers of both are gone', () => !helperRuns());
		expect(await world.run('forward', node, 'x')).toMatchObject({ code: 2 });
		expect(await world.run('forward', node)).toMatchObject({ code: 2 });
	});
});
