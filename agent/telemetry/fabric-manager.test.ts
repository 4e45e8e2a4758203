import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FabricManager, MANAGER } from './fabric-manager.ts';

let root: string;
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'fabric-manager-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function files(of: Readonly<Record<string, string>>): void {
	for (const [path, text] of Object.entries(of)) {
		mkdirSync(dirname(join(root, path)), { recursive: true });
		writeFileSync(join(root, path), `${text}\n`);
	}
}

const manager = () => new FabricManager({ procRoot: join(root, 'proc'), sysRoot: join(root, 'sys'), hostRoot: root });
const UNIT = { 'usr/lib/systemd/system/nvidia-fabricmanager.service': '[Unit]' };
const ENABLED = { 'etc/systemd/system/multi-user.target.wants/nvidia-fabricmanager.service': '[Unit]' };
const SWITCH = {
	'sys/bus/pci/devices/0000:05:00.0/vendor': '0x10de',
	'sys/bus/pci/devices/0000:05:00.0/class': '0x068000',
};
const PROCESSES = 'sys/fs/cgroup/system.slice/nvidia-fabricmanager.service/cgroup.procs';

it('is not expected where it is not installed, or masked, whatever the hardware', () => {
	expect(manager().read(true)).toBe(MANAGER.notNeeded);
	files(SWITCH);
	expect(manager().read(true)).toBe(MANAGER.notNeeded);
	files(UNIT);
	expect(manager().read(true)).toBe(MANAGER.down);
	for (const folder of ['etc/systemd/system', 'run/systemd/system']) {
		mkdirSync(join(root, folder), { recursive: true });
		const mask = join(root, folder, 'nvidia-fabricmanager.service');
		symlinkSync('/dev/null', mask);
		expect(manager().read(true), folder).toBe(MANAGER.notNeeded);
		rmSync(mask);
	}
});

it('does not run where there is a switch and its control group is empty or gone', () => {
	files({ ...SWITCH, ...UNIT });
	expect(manager().read(false)).toBe(0);
	files({ [PROCESSES]: '' });
	expect(manager().read(false)).toBe(0);
	files({ [PROCESSES]: '4711' });
	expect(manager().read(false)).toBe(1);
});

it('without a switch on the bus is wanted where it is enabled and a GPU speaks of a fabric', () => {
	files(UNIT);
	expect(manager().read(true)).toBe(MANAGER.notNeeded);
	files(ENABLED);
	// A card in a slot: an image that enables it everywhere is no fault.
	expect(manager().read(false)).toBe(MANAGER.notNeeded);
	// No GPU was asked yet.
	expect(manager().read(undefined)).toBeNaN();
	expect(manager().read(true)).toBe(0);
});

it('runs also by the word of its pid file, unless the number is of another program by now', () => {
	files({ ...SWITCH, ...UNIT, 'run/nvidia-fabricmanager/nv-fabricmanager.pid': '77' });
	expect(manager().read(false)).toBe(0);
	files({ 'proc/77/comm': 'bash' });
	expect(manager().read(false)).toBe(0);
	files({ 'proc/77/comm': 'nv-fabricmanage' });
	expect(manager().read(false)).toBe(1);
});
