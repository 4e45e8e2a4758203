import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openDataFolder, takeFolder, whoRuns, writeSecret } from './up/data-folder.ts';
import { completePorts, isFree } from './up/ports.ts';

const fresh = () => join(mkdtempSync(join(tmpdir(), 'gpuaas-up-')), 'data');

describe('data folder of up', () => {
	it('keeps its ports and never rewrites the policy', async () => {
		const root = fresh();
		const first = await openDataFolder(root, {}, 'policy one');
		writeFileSync(join(root, 'agent.policy.toml'), 'mine');
		const second = await openDataFolder(root, {}, 'policy two');
		expect(second.ports).toEqual(first.ports);
		expect(new Set(Object.values(first.ports)).size).toBe(4);
		expect(readFileSync(join(root, 'agent.policy.toml'), 'utf8')).toBe('mine');
		const third = await openDataFolder(root, { api: 4242 }, '');
		expect(third.ports).toEqual({ ...first.ports, api: 4242 });
	});

	it('adds the section on devices to a policy that an earlier up wrote, and to no other', async () => {
		const root = fresh();
		const path = join(root, 'agent.policy.toml');
		const section = '# Disks stay closed.\n[devices]\nisolation = "preferred"\n';
		const before = '# Written by `gpuaas up` for trying out\n[files]\nread = true\n\n[reboot]\nallowed = false\n';
		const policy = before.replace('\n[reboot]', `\n${section}\n[reboot]`);
		await openDataFolder(root, {}, policy);
		expect(readFileSync(path, 'utf8')).toBe(policy);
		writeFileSync(path, before);
		await openDataFolder(root, {}, policy);
		const after = readFileSync(path, 'utf8');
		expect(after.startsWith(before)).toBe(true);
		expect(after.endsWith(section)).toBe(true);
		await openDataFolder(root, {}, policy);
		expect(readFileSync(path, 'utf8')).toBe(after);
		const own = before.replace('# Written by `gpuaas up` for', '# For');
		writeFileSync(path, own);
		await openDataFolder(root, {}, policy);
		expect(readFileSync(path, 'utf8')).toBe(own);
	});

	it('belongs to one process, and to the next when that was killed', async () => {
		const root = fresh();
		const started = { startedAt: 'now', store: 'postgres://db' };
		const release = await takeFolder(root, started, 'a');
		expect(await takeFolder(root, { startedAt: 'later' }, 'b')).toBeUndefined();
		expect(await whoRuns(root)).toMatchObject({ pid: process.pid, ...started });
		release?.();
		expect(await whoRuns(root)).toBeUndefined();
		const killed = { instanceId: 'c', pid: process.pid, startTimeTicks: 1, bootId: 'other' };
		writeFileSync(join(root, 'up', 'lock-0000000009'), JSON.stringify(killed));
		expect(await whoRuns(root), 'the pid was reused').toBeUndefined();
		expect(await takeFolder(root, started, 'd')).toBeDefined();
		expect(await whoRuns(root)).toMatchObject({ pid: process.pid });
	});

	it('goes from one that was killed to one of several that come at once', async () => {
		const root = fresh();
		await takeFolder(root, { startedAt: 'now' }, 'first').then((release) => release?.());
		const killed = { instanceId: 'killed', pid: 2 ** 22 + 1, startTimeTicks: 1, bootId: 'other' };
		writeFileSync(join(root, 'up', 'lock-0000000009'), JSON.stringify(killed));
		const taken = await Promise.all(['a', 'b', 'c', 'd'].map((id) => takeFolder(root, { startedAt: id }, id)));
		expect(taken.filter((release) => release !== undefined)).toHaveLength(1);
	});

	it('writes secrets for their owner alone', async () => {
		const root = fresh();
		await openDataFolder(root, {}, '');
		await writeSecret(join(root, 'join-token'), 'secret');
		expect(statSync(join(root, 'join-token')).mode & 0o777).toBe(0o600);
	});

	it('sees a port that is taken', async () => {
		const server = createServer();
		await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
		expect(await isFree((server.address() as AddressInfo).port)).toBe(false);
		await new Promise((done) => server.close(done));
		// One that was free a moment ago may be anybody's by now; not each of many.
		await expect.poll(async () => await isFree((await completePorts({})).api)).toBe(true);
	});
});
