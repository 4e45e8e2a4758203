import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { leakyAccounts, type ManagerPlaces, managerAdvice, userManagerOf } from './user-managers.ts';

/** By the files that systemd and logind keep, in a folder of our own. */
const BOB = { name: 'bob', uid: 1234 };
let root: string;
let places: ManagerPlaces;
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'managers-'));
	const folder = (name: string) => {
		mkdirSync(join(root, name));
		return join(root, name);
	};
	places = {
		booted: folder('booted'),
		units: [folder('units'), folder('units-of-this-boot')],
		users: folder('users'),
		linger: folder('linger'),
		cgroups: [folder('cgroup')],
	};
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const mask = (unit: string, folder = 'units') => symlinkSync('/dev/null', join(root, folder, unit));
const run = () => mkdirSync(join(root, 'cgroup/user.slice/user-1234.slice/user@1234.service'), { recursive: true });

test('where systemd runs, an account may start a manager unless its unit is masked', () => {
	expect(userManagerOf(BOB, places)).toBe('possible');
	mask('user@1235.service');
	symlinkSync('/lib/systemd/system/user@.service', join(root, 'units/user@1234.service'));
	expect(userManagerOf(BOB, places)).toBe('possible');
	mask('user@1234.service', 'units-of-this-boot');
	expect(userManagerOf(BOB, places)).toBe('none');
});

test('the mask of all accounts counts too', () => {
	mask('user@.service');
	expect(userManagerOf(BOB, places)).toBe('none');
});

test.each([
	['users', '1234'],
	['linger', 'bob'],
])('who is in %s has one, or will in a moment', (folder, name) => {
	writeFileSync(join(root, folder, name), '');
	expect(userManagerOf(BOB, places)).toBe('running');
	mask('user@1234.service');
	expect(userManagerOf(BOB, places)).toBe('none');
});

test('one that runs is there whatever was masked since', () => {
	run();
	mask('user@1234.service');
	expect(userManagerOf(BOB, places)).toBe('running');
});

test('without systemd there is none', () => {
	run();
	expect(userManagerOf(BOB, { ...places, booted: join(root, 'not') })).toBe('none');
});

test('of the accounts that are asked about those are told that could leave, root never', () => {
	const passwd = join(root, 'passwd');
	const lines = [
		'root:x:0:0::/root:/bin/sh',
		'bob:x:1234:1234::/:/bin/sh',
		'eve:x:1235:1235::/:/bin/sh',
		'ann:x:1236:1::/:',
	];
	writeFileSync(passwd, lines.join('\n'));
	mask('user@1235.service');
	const [found, ...others] = leakyAccounts(['root', 'bob', 'eve', 'gone'], places, passwd);
	expect(others).toEqual([{ name: 'gone', uid: undefined, manager: 'possible' }]);
	expect(found).toEqual({ ...BOB, manager: 'possible' });
	mask('user@.service');
	expect(leakyAccounts(['bob', 'gone'], places, passwd)).toEqual([]);
	expect(managerAdvice(found as NonNullable<typeof found>)).toContain('systemctl mask --now user@1234.service');
});
