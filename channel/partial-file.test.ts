import {
	existsSync,
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
import { processIdentity } from '../kit/process-identity.ts';
import type { CopyEntry } from './copy-entry.ts';
import { PartialFile } from './partial-file.ts';

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

test('a link under the very name of the partial file is not written through', async () => {
	const secret = join(folder, 'secret');
	writeFileSync(secret, 'secret');
	symlinkSync(secret, join(folder, `.x.${owner.pid}-${owner.startTimeTicks}-${owner.bootId}.gpuaas-partial`));
	// Called by the name that people know.
	const message = `${target} is not what the copy needs there (ELOOP)`;
	await expect(PartialFile.open(target, 3, owner, systemClock)).rejects.toMatchObject({ message });
	expect(readFileSync(secret, 'utf8')).toBe('secret');
});

test('what another machine may still write, in a home that they share, is not taken over', async () => {
	const other = join(folder, '.x.4242-999-11111111-2222-3333-4444-555555555555.gpuaas-partial');
	writeFileSync(other, 'th');
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
