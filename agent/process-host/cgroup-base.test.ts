import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { acquireDirectoryLock } from '../../kit/directory-lock.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { cgroupBaseOf, cgroupIdOf } from './cgroup-base.ts';
import { HostFixture, request, run } from './host-fixture.ts';

let root: string;
beforeEach(() => {
	root = realpathSync(mkdtempSync(join(tmpdir(), 'base-')));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function hostIn(groups: string): void {
	const identity = processIdentity(process.pid);
	if (identity === undefined) throw new Error('/proc is not mounted');
	acquireDirectoryLock(root, { ...identity, instanceId: 'it' });
	mkdirSync(join(root, String(process.pid)));
	writeFileSync(join(root, `${process.pid}/cgroup`), groups);
}

it.each([
	[
		'delegated to it',
		'0::/system.slice/gpuaas-process-host.service/host\n',
		'/system.slice/gpuaas-process-host.service',
	],
	['the root', '4:devices:/host\n0::/\n', 'ours'],
	['of somebody else', '0::/user.slice/session-3.scope\n', undefined],
	['of cgroup v1 alone', '4:devices:/host\n', undefined],
])('where a host is in a cgroup %s', (_what, groups, base) => {
	hostIn(groups);
	expect(cgroupBaseOf(root, root)).toBe(base === 'ours' ? `/gpuaas-${cgroupIdOf(root)}` : base);
});

it('where no host lives there is none', () => {
	expect(cgroupBaseOf(root, '/proc')).toBeUndefined();
	expect(cgroupBaseOf(join(root, 'absent'), '/proc')).toBeUndefined();
});

it('a task of a host is born there', async () => {
	await using fixture = await HostFixture.start({ cgroup: 'auto' });
	const { stdout } = await run(fixture.host, request(['cat', '/proc/self/cgroup']));
	const path = /^0::(.*)$/m.exec(stdout.toString())?.[1] ?? '';
	const base = cgroupBaseOf(fixture.directory, '/proc');
	const hasOne = fixture.host.capabilities.containment === 'cgroup2';
	expect(path.startsWith(`${base}/task-`)).toBe(hasOne);
	expect(path.includes('/task-')).toBe(hasOne);
});
