import {
	chmodSync,
	chownSync,
	existsSync,
	lstatSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	realpathSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { present } from '../../kit/assert.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { FifoPool, fifoFolderOf, makeFifoFolder, openForOutput, removeFifoFolder } from './fifo.ts';

let root: string;
let directory: string;
let memory: string;
const isRoot = process.getuid?.() === 0;
const self = present(processIdentity(process.pid), 'this process');

beforeEach(() => {
	root = realpathSync(mkdtempSync(join(tmpdir(), 'fifo-')));
	directory = join(root, 'host');
	memory = join(root, 'memory');
	mkdirSync(directory);
	mkdirSync(memory);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

it('keeps FIFOs in a private folder in memory, which the directory names', async () => {
	const folder = makeFifoFolder(directory, self, memory);
	expect(folder.startsWith(`${memory}/`)).toBe(true);
	expect(lstatSync(folder).mode & 0o777).toBe(0o700);
	expect(fifoFolderOf(directory)).toBe(folder);
	const [path = ''] = await new FifoPool(folder).take(1);
	expect(openForOutput(path).path.startsWith(`${folder}/`)).toBe(true);
});

it('makes do with the directory where memory takes no folder', () => {
	const folder = makeFifoFolder(directory, self, join(root, 'missing'));
	expect(folder).toBe(join(directory, 'fifo'));
	expect(fifoFolderOf(directory)).toBe(folder);
});

it('names the folder of a dead host until the next one has made its own', () => {
	const first = makeFifoFolder(directory, self, memory);
	rmSync(first, { recursive: true });
	// What still holds a pipe of it is known by this path.
	expect(fifoFolderOf(directory)).toBe(first);
	const second = makeFifoFolder(directory, self, memory);
	expect(fifoFolderOf(directory)).toBe(second);
	removeFifoFolder(directory);
	expect(existsSync(second)).toBe(false);
	expect(readdirSync(directory)).toEqual([]);
});

it('removes what hosts left whose directory is gone, and nothing of one that lives', () => {
	const living = makeFifoFolder(directory, self, memory);
	const abandoned = makeFifoFolder(join(root, 'host'), { ...self, startTimeTicks: 1 }, memory);
	expect(existsSync(living)).toBe(false);
	const other = join(root, 'other');
	mkdirSync(other);
	const ofOther = makeFifoFolder(other, self, memory);
	expect(existsSync(abandoned)).toBe(false);
	const third = join(root, 'third');
	mkdirSync(third);
	makeFifoFolder(third, self, memory);
	expect(existsSync(ofOther)).toBe(true);
});

describe('what only has the name of an abandoned folder', () => {
	/** A folder of a host that is gone, and one beside it with the same name that somebody else made. */
	function abandoned() {
		const ours = makeFifoFolder(directory, { ...self, startTimeTicks: 1 }, memory);
		const foreign = join(memory, basename(ours).replace(/[^-]*$/, 'foreign'));
		const cleanUp = () => {
			const other = join(root, 'other');
			mkdirSync(other);
			makeFifoFolder(other, self, memory);
			expect(existsSync(ours)).toBe(false);
		};
		return { foreign, cleanUp };
	}

	it('stays when others may enter it', () => {
		const { foreign, cleanUp } = abandoned();
		mkdirSync(foreign);
		chmodSync(foreign, 0o755);
		cleanUp();
		expect(existsSync(foreign)).toBe(true);
	});

	it('stays when it is a link or a file', () => {
		const { foreign, cleanUp } = abandoned();
		const target = join(root, 'target');
		mkdirSync(target, { mode: 0o700 });
		symlinkSync(target, foreign);
		writeFileSync(`${foreign}2`, '', { mode: 0o700 });
		cleanUp();
		expect([foreign, `${foreign}2`].map((path) => lstatSync(path).isDirectory())).toEqual([false, false]);
	});

	it.runIf(isRoot)('stays when it is of another user', () => {
		const { foreign, cleanUp } = abandoned();
		mkdirSync(foreign, { mode: 0o700 });
		chownSync(foreign, 65_534, 65_534);
		cleanUp();
		expect(existsSync(foreign)).toBe(true);
	});
});
