import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { loaderArgs } from '../../kit/loader-args.ts';
import type { LaunchRequest } from '../tasks/process-host.ts';
import { removeTree } from './cgroup.ts';
import type { SocketProcessHost } from './client.ts';
import {
	compileCache,
	HostFixture,
	launched,
	pidsWith,
	request,
	resultOf,
	run,
	uniqueSeconds,
	until,
} from './host-fixture.ts';
import { startProcessHost } from './start.ts';

/**
 * What the kernel does with a list of devices, for real: a task that runs as nobody, in front of device files that
 * everybody may open by their mode bits. The same with eBPF on cgroup v2 and, where a host sees no cgroup v2, with the
 * devices controller of cgroup v1.
 */
const isRoot = process.getuid?.() === 0;
const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
/** null, zero, and what a shell needs of terminals. */
const BASE = ['c 1:3 rw', 'c 1:5 rw', 'c 5:0 rw', 'c 5:2 rw', 'c 136:* rw'];
const FULL = 'c 1:7 rw';

let folder: string;
beforeAll(() => {
	if (!isRoot) return;
	folder = mkdtempSync(join(tmpdir(), 'devices-'));
	execFileSync('chmod', ['755', folder]);
	for (const [name, ...number] of [
		['null', 'c', '1', '3'],
		['full', 'c', '1', '7'],
		['mem', 'c', '1', '1'],
		['disk', 'b', '7', '0'],
	] as const)
		execFileSync('mknod', ['-m', '666', join(folder, name), ...number]);
});
afterAll(() => {
	if (isRoot) rmSync(folder, { recursive: true, force: true });
});

/** Opens each of these for reading, as nobody, and says what came of it. */
const PROBE = `
const { openSync } = require('node:fs');
for (const name of process.argv.slice(1)) {
	let said = 'open';
	try { openSync(name, 'r'); } catch (error) { said = error.code; }
	console.log(name.split('/').at(-1), said);
}`;

function probe(names: readonly string[], more: Partial<LaunchRequest> = {}): LaunchRequest {
	const paths = names.map((name) => (name.startsWith('/') ? name : join(folder, name)));
	return request([process.execPath, '-e', PROBE, ...paths], { user: 'nobody', ...more });
}

const confine = (allow: readonly string[], group = 'assignment-1') => ({ confine: { group, allow } });

async function said(host: SocketProcessHost, wanted: LaunchRequest): Promise<Record<string, string>> {
	const { stdout, stderr } = await run(host, wanted);
	expect(stderr.toString()).toBe('');
	const lines = stdout.toString().trim().split('\n');
	return Object.fromEntries(lines.map((line) => line.split(' ') as [string, string]));
}

/** A host that sees no cgroup v2: of this directory, or of its own. */
async function startWithoutCgroup2(directory = mkdtempSync(join(tmpdir(), 'ph1-'))): Promise<HostFixture> {
	const script = `for each in $(awk '$3 == "cgroup2" {print $2}' /proc/mounts); do umount -l $each; done; exec "$@"`;
	const argv = ['--mount', '/bin/sh', '-c', script, 'host', process.execPath, ...loaderArgs(), MAIN, directory];
	const child = spawn('unshare', argv, {
		env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', NODE_COMPILE_CACHE: compileCache },
		detached: true,
		stdio: 'ignore',
	});
	child.unref();
	await until(() => expect(readDirectoryLock(directory)?.alive).toBe(true));
	const host = await startProcessHost({ directory, clock: systemClock });
	return new HostFixture(directory, {}, host);
}

/** Where the groups of the host of this directory are, in either hierarchy. */
function trees({ directory }: HostFixture): readonly string[] {
	const ours = `gpuaas-${createHash('sha256').update(directory).digest('hex').slice(0, 12)}`;
	const mounts = readFileSync('/proc/self/mountinfo', 'latin1').matchAll(
		/^\S+ \S+ \S+ \S+ (\S+) [^-]*- (?:cgroup2 |cgroup \S+ \S*devices)/gm,
	);
	return [...mounts].map(([, mount = '']) => join(mount, ours)).filter((path) => existsSync(path));
}

function treeOf(fixture: HostFixture): string {
	return trees(fixture).find((path) => existsSync(join(path, 'cgroup.controllers'))) ?? '';
}

/** Whether tasks below it can be held to limits. */
function limitsOf(tree: string): boolean {
	const path = join(tree, 'cgroup.subtree_control');
	return existsSync(path) && /memory/.test(readFileSync(path, 'latin1'));
}

function groups(fixture: HostFixture): readonly string[] {
	return trees(fixture)
		.flatMap((path) => readdirSync(path))
		.filter((name) => name.startsWith('devices-'));
}

async function startAny(directory?: string): Promise<HostFixture> {
	if (directory === undefined) return await HostFixture.start();
	return new HostFixture(directory, {}, await startProcessHost({ directory, clock: systemClock, compileCache }));
}

const kinds = [
	['bpf', startAny],
	['cgroup1', startWithoutCgroup2],
] as const;

describe.skipIf(!isRoot).each(kinds)('a task that is held to its devices by %s', (mechanism, start) => {
	let fixture: HostFixture;
	beforeAll(async () => {
		fixture = await start();
		expect(fixture.host.capabilities.devices).toBe(mechanism);
	});
	afterAll(() => fixture?.[Symbol.asyncDispose]());

	test('opens what is listed, and is refused everything else whatever the mode bits say', async () => {
		const names = ['null', 'full', 'mem', 'disk', '/dev/zero', '/dev/urandom'];
		expect(await said(fixture.host, probe(names, confine(BASE)))).toEqual({
			null: 'open',
			full: 'EPERM',
			mem: 'EPERM',
			disk: 'EPERM',
			zero: 'open',
			urandom: 'EPERM',
		});
		// Without a list these are the account's to open.
		const open = { null: 'open', full: 'open', disk: 'open', urandom: 'open' };
		expect(await said(fixture.host, probe(['null', 'full', 'disk', '/dev/urandom']))).toEqual(open);
	});

	test('has each group its own list', async () => {
		const [one, two] = await Promise.all([
			said(fixture.host, probe(['full'], confine([...BASE, FULL], 'with'))),
			said(fixture.host, probe(['full'], confine(BASE, 'without'))),
		]);
		expect([one, two]).toEqual([{ full: 'open' }, { full: 'EPERM' }]);
	});

	test('gets what is added, and loses what is taken away, while it runs', async () => {
		const marks = mkdtempSync(join(tmpdir(), 'marks-'));
		execFileSync('chmod', ['755', marks]);
		const script = `
const { openSync, existsSync } = require('node:fs');
const [marks, device] = process.argv.slice(1);
for (const mark of ['one', 'two', 'three']) {
	while (!existsSync(marks + '/' + mark)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
	try { openSync(device, 'r'); console.log('open'); } catch (error) { console.log(error.code); }
}`;
		const wanted = request([process.execPath, '-e', script, marks, join(folder, 'full')], {
			user: 'nobody',
			...confine(BASE),
		});
		await launched(fixture.host, wanted);
		const lines: string[] = [];
		const output = (async () => {
			for await (const record of fixture.host.attach(wanted, 0))
				if (record.kind === 'DATA') lines.push(...Buffer.from(record.bytes).toString().trim().split('\n'));
		})();
		const look = async (mark: string) => {
			const before = lines.length;
			writeFileSync(join(marks, mark), '');
			await until(() => expect(lines.length).toBeGreaterThan(before));
			return lines.at(-1);
		};
		try {
			expect(await look('one')).toBe('EPERM');
			await fixture.host.allowDevices([...BASE, FULL]);
			expect(await look('two')).toBe('open');
			await fixture.host.allowDevices(BASE);
			expect(await look('three')).toBe('EPERM');
			await output;
		} finally {
			rmSync(marks, { recursive: true, force: true });
		}
		await expect(fixture.host.allowDevices(['everything'])).rejects.toThrow('everything');
	});

	test('is there with all of its descendants, and makes no device file even with every capability', async () => {
		const made = join(folder, 'made');
		const script = `(setsid sh -c ': < ${folder}/full') 2>&1; mknod ${made} c 1 3 2>&1`;
		const { stdout } = await run(fixture.host, request(['sh', '-c', script], confine(BASE)));
		expect(stdout.toString().match(/Operation not permitted/g)).toHaveLength(2);
		const free = await run(fixture.host, request(['sh', '-c', script]));
		expect(free.stdout.toString()).toBe('');
		rmSync(made);
	});

	test('is not started at all when its list is none', async () => {
		for (const wrong of [['c *:* rwm'], ['c 1:3 rwm'], ['']])
			expect(await fixture.host.launch(request(['true'], confine(wrong)))).toMatchObject({
				kind: 'REFUSED',
				reason: 'INVALID_REQUEST',
			});
		expect(await fixture.host.launch(request(['true'], confine(BASE, '../other')))).toMatchObject({ kind: 'REFUSED' });
	});

	test('is held as ever after somebody else removed all that its host has made', async () => {
		await said(fixture.host, probe(['full'], confine(BASE, 'removed')));
		const left = trees(fixture);
		expect(left).not.toEqual([]);
		await until(() => expect(left.map(removeTree)).not.toContain(false));
		await fixture.host.allowDevices(BASE);
		expect(groups(fixture)).toEqual([]);
		expect(await said(fixture.host, probe(['null', 'full'], confine(BASE, 'removed')))).toEqual({
			null: 'open',
			full: 'EPERM',
		});
		await until(() => expect(left.map(removeTree)).not.toContain(false));
		expect(await said(fixture.host, probe(['full']))).toEqual({ full: 'open' });
		expect(fixture.host.capabilities.limits === 'cgroup2').toBe(limitsOf(treeOf(fixture)));
	});

	test('is held by the next host too when a host died in the trial of what it has', async () => {
		const tree = treeOf(fixture);
		await fixture.killHost();
		if (mechanism === 'bpf') mkdirSync(join(tree, 'devices-trial', 'probe'), { recursive: true });
		fixture = await start(fixture.directory);
		expect(fixture.host.capabilities.devices).toBe(mechanism);
		expect(groups(fixture)).toEqual([]);
	});

	// The controller of v1 has no such bound.
	test('is refused as what it is when its devices can not be put in force', async () => {
		if (mechanism === 'cgroup1') return;
		const bound = join(treeOf(fixture), 'cgroup.max.descendants');
		writeFileSync(bound, '0');
		try {
			expect(await fixture.host.launch(request(['true'], confine(BASE, 'no-room')))).toMatchObject({
				kind: 'REFUSED',
				reason: 'DEVICE_ISOLATION_UNAVAILABLE',
			});
		} finally {
			writeFileSync(bound, 'max');
		}
	});

	test('ends with its host, and nothing of its group is left', async () => {
		const sleeper = uniqueSeconds();
		const wanted = request(['sleep', sleeper], { user: 'nobody', ...confine(BASE, 'last') });
		await launched(fixture.host, wanted);
		expect(groups(fixture)).toContain('devices-last');
		await fixture.killHost();
		fixture = await start(fixture.directory);
		expect(fixture.host.capabilities.devices).toBe(mechanism);
		await resultOf(fixture.host, wanted);
		expect(pidsWith(sleeper)).toEqual([]);
		expect(groups(fixture)).toEqual([]);
		expect(await said(fixture.host, probe(['full'], confine(BASE, 'last')))).toEqual({ full: 'EPERM' });
	});
});

test('a host that can hold nobody to a list starts nothing that is to be held to one', async () => {
	await using fixture = await HostFixture.start({ cgroup: 'off' });
	expect(fixture.host.capabilities.devices).toBe('none');
	expect(await fixture.host.launch(request(['true'], confine(BASE)))).toMatchObject({
		kind: 'REFUSED',
		reason: 'DEVICE_ISOLATION_UNAVAILABLE',
	});
	await launched(fixture.host, request(['true']));
});
