import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { allowedDevices, type DeviceWishes } from './device-files.ts';
import { confinementFault, parseDeviceRule } from './device-rules.ts';

/** Links to devices that every machine has stand for NVIDIA's: what counts is the number, and who owns it. */
let root: string;
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'devices-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const NOTHING: DeviceWishes = { gpus: false, imex: false, infiniband: false, fuse: false, allow: [] };
const EVERYBODYS = ['c 1:3 rw', 'c 1:5 rw', 'c 1:7 rw', 'c 1:8 rw', 'c 1:9 rw', 'c 5:0 rw', 'c 5:2 rw'];
const DEVICES = `Character devices:
  1 mem
  5 /dev/tty
136 pts
137 pts
510 nvidia-caps

Block devices:
  8 sd
259 nvidia-caps
`;

function put(path: string, text: string): void {
	mkdirSync(dirname(join(root, path)), { recursive: true });
	writeFileSync(join(root, path), text);
}

function device(path: string, target: string): void {
	mkdirSync(dirname(join(root, path)), { recursive: true });
	symlinkSync(target, join(root, path));
}

function allowed(more: Partial<DeviceWishes> = {}, devices = DEVICES): readonly string[] {
	put('proc/devices', devices);
	const folders = { dev: join(root, 'dev'), proc: join(root, 'proc') };
	return allowedDevices({ ...NOTHING, ...more }, folders);
}

/** What is allowed beyond what everybody has. */
const beyond = (more: Partial<DeviceWishes>, devices = DEVICES) =>
	allowed(more, devices).filter((rule) => !EVERYBODYS.includes(rule) && !/ 13[67]:/.test(rule));

test('everybody has the devices that programs can not do without, and terminals by the majors that the kernel gives them', () => {
	expect(allowed()).toEqual([...EVERYBODYS, 'c 136:* rw', 'c 137:* rw']);
});

test('GPUs by number; a file of that name with a number of somebody else opens nothing', () => {
	const theirs = DEVICES.replace('  1 mem', '  1 nvidia-uvm');
	for (const name of ['nvidia-modeset', 'nvidia-nvswitch0', 'nvidia-uvm-others']) device(`dev/${name}`, '/dev/kmsg');
	expect(beyond({ gpus: true }, theirs)).toEqual([]);
	device('dev/nvidia1', '/dev/kmsg');
	expect(beyond({ gpus: true })).toEqual([]);
	expect(beyond({ gpus: true }, theirs)).toEqual(['c 1:11 rw']);
	expect(beyond({}, theirs)).toEqual([]);
});

test('MIG instances by the minors that the driver lists, without those that change everybody’s', () => {
	const capabilities = 'proc/driver/nvidia/capabilities';
	const minor = (path: string, number: number) =>
		put(`${capabilities}/${path}`, `DeviceFileMinor: ${number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n`);
	minor('mig/config', 1);
	minor('mig/monitor', 2);
	minor('gpu0/mig/gi1/access', 12);
	minor('gpu0/mig/gi1/ci0/access', 13);
	minor('gpu3/mig/gi2/access', 300);
	minor('fabric-imex-mgmt', 3);
	// The major of the character devices, not the one of blocks.
	expect(beyond({ gpus: true })).toEqual(['c 510:12 rw', 'c 510:13 rw', 'c 510:300 rw']);
	expect(beyond({ gpus: true }, DEVICES.replace('510', '  7').replace('nvidia-caps', 'vcs'))).toEqual([]);
});

test('what the policy names besides, and never the console', () => {
	device('dev/infiniband/uverbs0', '/dev/kmsg');
	device('dev/infiniband/umad0', '/dev/console');
	device('dev/fuse', '/dev/kmsg');
	device('dev/loop7', '/dev/zero');
	expect(beyond({ infiniband: true })).toEqual(['c 1:11 rw']);
	expect(beyond({ fuse: true })).toEqual(['c 1:11 rw']);
	expect(beyond({ allow: [join(root, 'dev/fu*'), join(root, 'dev/nothing'), '/dev/console'] })).toEqual(['c 1:11 rw']);
	expect(beyond({ imex: true }, `${DEVICES.slice(0, 20)}234 nvidia-caps-imex-channels\n`)).toEqual(['c 234:* rw']);
});

test('rules are strict: no wildcard of a major, no mknod, no number beyond what the kernel has', () => {
	expect(parseDeviceRule('b 259:3 r')).toEqual({ type: 'b', major: 259, minor: 3, access: 'r' });
	for (const wrong of [
		'a *:* rwm',
		'c *:3 rw',
		'c 1:3 rwm',
		'c 1:3 m',
		'c 4096:0 r',
		'c 1:1048576 r',
		'c 1:3 rw\n',
		'c 1:3',
	])
		expect(parseDeviceRule(wrong)).toBeUndefined();
	expect(confinementFault({ group: 'a1', allow: ['c 1:3 rw'] })).toBeUndefined();
	for (const wrong of [
		undefined,
		{ group: '../x', allow: [] },
		{ group: '', allow: [] },
		{ group: 'a1', allow: ['all'] },
		{ group: 'a1', allow: Array(513).fill('c 1:3 rw') },
	])
		expect(confinementFault(wrong)).toEqual(expect.any(String));
});
