import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { detectContainer, readPlatformFacts, survivalWarning } from './facts.ts';
import { machineRebooter } from './reboot.ts';

const roots: string[] = [];
afterEach(() => {
	for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

/** A machine's files, as this process would find them there. */
function machine(files: Readonly<Record<string, string>>): string {
	const root = mkdtempSync(join(tmpdir(), 'gpuaas-facts-'));
	roots.push(root);
	for (const [path, text] of Object.entries(files)) {
		mkdirSync(dirname(join(root, path)), { recursive: true });
		writeFileSync(join(root, path), text);
	}
	return root;
}

const HOST = {
	'proc/1/comm': 'systemd\n',
	'proc/1/cgroup': '0::/init.scope\n',
	'proc/1/environ': 'HOME=/\0TERM=linux\0',
};

describe('detectContainer', () => {
	test.each<[string, Readonly<Record<string, string>>]>([
		['a machine under systemd', HOST],
		['an init of another family', { ...HOST, 'proc/1/comm': 'runit\n' }],
		['a machine whose PID 1 may not be looked at', { 'proc/1/comm': 'init\n' }],
		['a variable that only ends in the word', { ...HOST, 'proc/1/environ': 'HOME=/\0lastcontainer=docker\0' }],
		['no /proc at all', {}],
	])('%s is none', (_what, files) => {
		expect(detectContainer(machine(files))).toBe(false);
	});

	test.each<[string, Readonly<Record<string, string>>]>([
		['Docker', { ...HOST, '.dockerenv': '' }],
		['Podman', { ...HOST, 'run/.containerenv': '' }],
		['a runtime that says so to its first process', { ...HOST, 'proc/1/environ': 'A=b\0container=lxc\0' }],
		['the same as its first variable', { ...HOST, 'proc/1/environ': 'container=podman\0' }],
		['Kubernetes, by its cgroup', { ...HOST, 'proc/1/cgroup': '0::/kubepods.slice/pod1\n' }],
		['a first process that is no init', { ...HOST, 'proc/1/comm': 'node\n' }],
	])('%s is one', (_what, files) => {
		expect(detectContainer(machine(files))).toBe(true);
	});
});

describe('restarting the machine', () => {
	test.each([
		{ isContainer: false, isAllowed: true, refusal: undefined },
		{ isContainer: false, isAllowed: false, refusal: /not started with permission/ },
		{ isContainer: true, isAllowed: true, refusal: /runs in a container/ },
		{ isContainer: true, isAllowed: false, refusal: /runs in a container/ },
	])('in a container: $isContainer, allowed: $isAllowed', async ({ isContainer, isAllowed, refusal }) => {
		const ran: string[] = [];
		const rebooter = machineRebooter({ isContainer, isAllowed }, async (command, args) => {
			ran.push([command, ...args].join(' '));
		});
		if (refusal === undefined) {
			expect(rebooter.refusal).toBeUndefined();
			await rebooter.reboot();
			expect(ran).toEqual(['/usr/bin/systemctl reboot']);
			return;
		}
		expect(rebooter.refusal).toMatch(refusal);
		await expect(rebooter.reboot()).rejects.toMatchObject({ reason: 'REBOOT_NOT_ALLOWED' });
		expect(ran).toEqual([]);
	});

	test('goes on to the next program where there is no systemd, and says what failed when none is left', async () => {
		const ran: string[] = [];
		const without = (missing: readonly string[]) =>
			machineRebooter({ isContainer: false, isAllowed: true }, async (command) => {
				ran.push(command);
				if (missing.includes(command)) throw new Error(`spawn ${command} ENOENT`);
			});
		await without(['/usr/bin/systemctl']).reboot();
		expect(ran.splice(0)).toEqual(['/usr/bin/systemctl', '/sbin/reboot']);
		await expect(without(['/usr/bin/systemctl', '/sbin/reboot']).reboot()).rejects.toThrow('spawn /sbin/reboot ENOENT');
	});
});

describe('an agent that is PID 1', () => {
	test('survives nothing, and says so', () => {
		const facts = readPlatformFacts('', 1);
		expect(facts.isFirstProcess).toBe(true);
		expect(survivalWarning(facts)).toMatch(/PID 1 of its container: tasks and terminals end with it.*--init/);
	});

	test('any other has nothing to say', () => {
		const facts = readPlatformFacts('', 2);
		expect(facts.isFirstProcess).toBe(false);
		expect(survivalWarning(facts)).toBeUndefined();
		expect(readPlatformFacts().isFirstProcess).toBe(process.pid === 1);
	});
});
