import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { DiskChildren } from './disk-children.ts';

const folder = mkdtempSync(join(tmpdir(), 'disk-children-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Root may write everywhere: a folder in the place of a file stands for a disk that takes nothing. */
const REPLACED = (record: string) =>
	`while [ ! -s ${record} ]; do sleep 0.01; done; rm ${record}; mkdir ${record}; echo it`;

test('a disk that answered has answered, also when its records can not be removed', async () => {
	const at = join(folder, 'answered');
	const children = new DiskChildren({ clock: systemClock, folder: at, timeoutMs: 60_000 });
	const ask = (device: string) => children.ask(device, '/bin/sh', ['-c', REPLACED(join(at, `${device}.json`))]);
	expect(await ask('sda')).toEqual({ kind: 'ended', stdout: 'it\n' });
	mkdirSync(join(at, 'sdb.miss'));
	expect(await ask('sdb')).toEqual({ kind: 'ended', stdout: 'it\n' });
});

test('nobody who asks is thrown at, whatever becomes of the records or of the start', async () => {
	const at = join(folder, 'gone');
	const children = new DiskChildren({ clock: systemClock, folder: at, timeoutMs: 60_000 });
	rmSync(at, { recursive: true });
	writeFileSync(at, '');
	expect(await children.ask('sda', '/bin/sleep', ['1000'])).toMatchObject({ kind: 'not_asked' });
	// What the kernel refuses in the very call that would start it.
	const tooLong = 'x'.repeat(4 * 1024 * 1024);
	expect(await children.ask('sdb', '/bin/true', [tooLong])).toMatchObject({
		kind: 'not_asked',
		why: expect.stringContaining('E2BIG'),
	});
});
