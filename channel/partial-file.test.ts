import { execFileSync } from 'node:child_process';
import {
	chmodSync,
	chownSync,
	existsSync,
	linkSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { present } from '../kit/assert.ts';
import { systemClock } from '../kit/clock.ts';
import { type Rng, systemRng } from '../kit/ids.ts';
import { processIdentity } from '../kit/process-identity.ts';
import type { CopyEntry } from './copy-entry.ts';
import { Leftovers, PartialFile } from './partial-file.ts';

const owner = present(processIdentity(process.pid), 'this process runs');
const entry: CopyEntry = { names: ['x'], kind: 'file', mode: 0o600, mtimeMs: 0, size: 3, target: '' };
let folder = '';
let target = '';
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-partial-'));
	target = join(folder, 'x');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function written(): Promise<PartialFile> {
	const partial = await PartialFile.open(target, 3, owner, systemClock);
	await partial.append(Buffer.from('new'));
	expect(existsSync(target)).toBe(false);
	return partial;
}

test('what appeared under the name while it was written stays, unless it is forced', async () => {
	const first = await written();
	writeFileSync(target, 'theirs');
	await expect(first.commit(target, entry, false)).rejects.toMatchObject({ reason: 'FILE_EXISTS' });
	expect(readFileSync(target, 'utf8')).toBe('theirs');
	await first.remove();
	rmSync(target);
	const second = await written();
	writeFileSync(target, 'theirs');
	await second.commit(target, entry, true);
	expect(readFileSync(target, 'utf8')).toBe('new');
	expect(readdirSync(folder)).toEqual(['x']);
});

const nameOf = (random: string) =>
	join(folder, `.x.${owner.pid}-${owner.startTimeTicks}-${owner.bootId}-${random}.gpuaas-partial`);
/** Names as they would be if somebody foretold the first, for what is taken over and for what is made. */
function foretold(): Rng {
	const answers = [0x11, 0x11];
	return { ...systemRng, bytes: (length) => new Uint8Array(length).fill(answers.shift() ?? 0x22) };
}

test('what somebody put under the very name of the partial file is not written into', async () => {
	const secret = join(folder, 'secret');
	writeFileSync(secret, 'theirs');
	const put = {
		'a link': () => symlinkSync(secret, nameOf('11'.repeat(8))),
		'a file that is open elsewhere': () => writeFileSync(nameOf('11'.repeat(8)), 'theirs', { mode: 0o600 }),
	};
	for (const [what, trap] of Object.entries(put)) {
		trap();
		// Its writer would be this very process: it isn't waited for, which would cost two seconds here.
		let nowMs = 0;
		const clock = { ...systemClock, monotonic: () => (nowMs += 10_000) };
		const partial = await PartialFile.open(target, 3, owner, clock, { rng: foretold() });
		await partial.append(Buffer.from('new'));
		expect(partial.path, what).toBe(nameOf('22'.repeat(8)));
		expect([readFileSync(secret, 'utf8'), readFileSync(nameOf('11'.repeat(8)), 'utf8')], what).toEqual([
			'theirs',
			'theirs',
		]);
		await partial.remove();
		rmSync(nameOf('11'.repeat(8)));
	}
});

test('what can not be made is called by the name that people know', async () => {
	const nowhere = PartialFile.open('/proc/self/x', 3, owner, systemClock);
	await expect(nowhere).rejects.toMatchObject({ message: expect.stringContaining('there is no /proc/self/x;') });
});

test('two copies to one target at once, of one process too, write two files', async () => {
	let nowMs = 0;
	const clock = { ...systemClock, monotonic: () => (nowMs += 10_000) };
	const [first, second] = [
		await PartialFile.open(target, 3, owner, clock),
		await PartialFile.open(target, 3, owner, clock),
	];
	await first.append(Buffer.from('one'));
	await second.append(Buffer.from('two'));
	await first.commit(target, entry, false);
	await expect(second.commit(target, entry, false)).rejects.toMatchObject({ reason: 'FILE_EXISTS' });
	expect(readFileSync(target, 'utf8')).toBe('one');
	await second.remove();
	expect(readdirSync(folder)).toEqual(['x']);
});

const left = () => join(folder, `.x.999999999-1-${owner.bootId}-0123456789abcdef.gpuaas-partial`);

test.each([
	['has another name too', () => linkSync(left(), join(folder, 'theirs'))],
	['others may read', () => chmodSync(left(), 0o644)],
	['is no file', () => execFileSync('sh', ['-c', 'rm "$1" && mkfifo -m 600 "$1"', 'sh', left()])],
	...(process.getuid?.() === 0 ? [['another owns', () => chownSync(left(), 65_534, 65_534)] as const] : []),
] as const)('what an ended copy seems to have left and %s is not taken over', async (_, become) => {
	writeFileSync(left(), 'ne', { mode: 0o600 });
	become();
	const inode = statSync(left()).ino;
	const partial = await PartialFile.open(target, 3, owner, systemClock);
	expect([partial.bytes, statSync(left()).ino]).toEqual([0, inode]);
	await partial.remove();
});

test('what an ended copy left is taken over', async () => {
	writeFileSync(left(), 'ne', { mode: 0o600 });
	const partial = await PartialFile.open(target, 3, owner, systemClock);
	await partial.append(Buffer.from('w'));
	await partial.commit(target, entry, false);
	expect([readdirSync(folder), readFileSync(target, 'utf8')]).toEqual([['x'], 'new']);
});

test('a folder is listed once for all files of a copy, also for what an ended copy left of a later one', async () => {
	let listed = 0;
	const leftovers = new Leftovers(async (place) => {
		listed += 1;
		return readdirSync(place);
	});
	writeFileSync(left(), 'ne', { mode: 0o600 });
	for (const [name, bytes] of [
		['a', 0],
		['b', 0],
		['x', 2],
	] as const) {
		const partial = await PartialFile.open(join(folder, name), 3, owner, systemClock, { leftovers });
		expect(partial.bytes, name).toBe(bytes);
		await partial.remove();
	}
	expect(listed).toBe(1);
});

test('what another machine may still write, in a home that they share, is not taken over', async () => {
	const other = join(folder, '.x.4242-999-11111111-2222-3333-4444-555555555555-0123456789abcdef.gpuaas-partial');
	writeFileSync(other, 'th', { mode: 0o600 });
	const { mtimeMs } = statSync(other);
	const after = (minutes: number) => ({ ...systemClock, now: () => mtimeMs + minutes * 60_000 });
	const beside = await PartialFile.open(target, 3, owner, after(9));
	expect([beside.bytes, readFileSync(other, 'utf8')]).toEqual([0, 'th']);
	await beside.remove();
	// Its machine started anew, or it was killed there.
	const taken = await PartialFile.open(target, 3, owner, after(11));
	expect([taken.bytes, existsSync(other)]).toEqual([2, false]);
	await taken.remove();
});
