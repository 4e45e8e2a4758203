import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
	appendFileSync,
	chmodSync,
	existsSync,
	lstatSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	truncateSync,
	utimesSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { present } from '../kit/assert.ts';
import { type Clock, systemClock } from '../kit/clock.ts';
import { processIdentity } from '../kit/process-identity.ts';
import { decodeEntry } from './copy-entry.ts';
import { COPY_FRAME, CopyLink } from './copy-frames.ts';
import { type CopyDestination, receiveTree } from './copy-receiver.ts';
import { type CopyProgress, sendTree } from './copy-sender.ts';
import { encodeFrame } from './frame.ts';
import { streamPipe } from './pipe.ts';
import { encodeRefusal } from './refusal.ts';

const owner = present(processIdentity(process.pid), 'this process runs');
let folder = '';
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-copy-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (...names: string[]) => join(folder, ...names);

interface Options extends Partial<CopyDestination> {
	readonly recursive?: boolean;
	/** Cuts both directions once so many bytes of the sender's have passed. */
	readonly cutAfterBytes?: number;
	/** Changes one bit of what the sender sends, that many bytes in. */
	readonly flipAt?: number;
	readonly onSent?: (progress: CopyProgress) => void;
}

async function copy(from: string, to: string, options: Options = {}) {
	const { recursive = false, cutAfterBytes = Infinity, flipAt = -1, onSent = () => {}, ...more } = options;
	const down = new PassThrough();
	const up = new PassThrough();
	const progress: CopyProgress[] = [];
	let passed = 0;
	const wire = (async function* () {
		for await (const chunk of down as AsyncIterable<Buffer>) {
			if (flipAt >= passed && flipAt < passed + chunk.length)
				chunk.writeUInt8(chunk.readUInt8(flipAt - passed) ^ 1, flipAt - passed);
			passed += chunk.length;
			if (passed > cutAfterBytes) {
				up.end();
				return;
			}
			yield chunk;
		}
	})();
	const asked = { path: from, recursive };
	const destination = { path: to, force: false, freeFloorBytes: 0, owner, clock: systemClock, asked, ...more };
	const sending = sendTree(streamPipe(up, down), { path: from, recursive }, onSent).finally(() => down.end());
	const receiving = receiveTree(streamPipe(wire, up), destination, (each) => progress.push(each)).finally(() =>
		up.end(),
	);
	const [sent, received] = await Promise.allSettled([sending, receiving]);
	if (received.status === 'rejected') throw Object.assign(received.reason as Error, { sent, progress });
	if (sent.status === 'rejected') throw sent.reason;
	return progress;
}

const partials = () =>
	readdirSync(folder, { recursive: true }).filter((name) => String(name).endsWith('.gpuaas-partial'));
const random = (bytes: number) =>
	Buffer.from(Array.from({ length: bytes }, (_, index) => (index * 7919 + (index >> 8)) & 0xff));

describe('one file', () => {
	test('arrives whole, with its mode and time, and nothing beside it', async () => {
		writeFileSync(at('a'), random(700_000));
		chmodSync(at('a'), 0o751);
		utimesSync(at('a'), 1_000_000_000, 1_000_000_000.5);
		await copy(at('a'), at('b'));
		expect(readFileSync(at('b')).equals(readFileSync(at('a')))).toBe(true);
		const stats = statSync(at('b'));
		expect([stats.mode & 0o7777, stats.mtimeMs]).toEqual([0o751, 1_000_000_000_500]);
		expect(readdirSync(folder).sort()).toEqual(['a', 'b']);
	});

	test('goes into a folder under its own name', async () => {
		writeFileSync(at('a'), '');
		mkdirSync(at('into'));
		await copy(at('a'), at('into'));
		expect(readFileSync(at('into', 'a'), 'utf8')).toBe('');
	});

	test('a set-user-ID bit does not travel', async () => {
		writeFileSync(at('a'), 'x');
		chmodSync(at('a'), 0o4755);
		await copy(at('a'), at('b'));
		expect(statSync(at('b')).mode & 0o7777).toBe(0o755);
	});

	test('what is there stays, unless it is forced; the same again is done already', async () => {
		writeFileSync(at('a'), 'new');
		writeFileSync(at('b'), 'old');
		// Before a byte of it travels.
		await expect(copy(at('a'), at('b'))).rejects.toMatchObject({ reason: 'FILE_EXISTS', progress: [] });
		expect(readFileSync(at('b'), 'utf8')).toBe('old');
		await copy(at('a'), at('b'), { force: true });
		expect(readFileSync(at('b'), 'utf8')).toBe('new');
		expect((await copy(at('a'), at('b'))).at(-1)).toMatchObject({ state: 'unchanged' });
		expect(partials()).toEqual([]);
	});

	test('a link at the destination is replaced, not followed', async () => {
		writeFileSync(at('a'), 'new');
		// Also where it leads to the very same bytes.
		for (const content of ['untouched', 'new']) {
			writeFileSync(at('elsewhere'), content);
			rmSync(at('b'), { force: true });
			symlinkSync(at('elsewhere'), at('b'));
			await expect(copy(at('a'), at('b'))).rejects.toMatchObject({ reason: 'FILE_EXISTS' });
			await copy(at('a'), at('b'), { force: true });
			expect([lstatSync(at('b')).isFile(), readFileSync(at('elsewhere'), 'utf8')]).toEqual([true, content]);
		}
	});

	test.each([
		['a source that is not there', 'nowhere', 'b', 'FILE_NOT_FOUND'],
		['a folder without --recursive', '.', 'b', 'FILE_UNSUPPORTED'],
		['a folder that is not there', 'a', 'none/b', 'FILE_NOT_FOUND'],
		['a destination that ends in a slash', 'a', 'none/', 'FILE_NOT_FOUND'],
		['a file in the place of a folder', 'a', 'a/b', 'FILE_UNSUPPORTED'],
	])('%s is refused with a reason, on both sides', async (_, from, to, reason) => {
		writeFileSync(at('a'), 'x');
		await expect(copy(`${folder}/${from}`, `${folder}/${to}`)).rejects.toMatchObject({ reason });
		expect(readdirSync(folder)).toEqual(['a']);
	});

	test('a disk that would be left too full is refused before a byte is written', async () => {
		writeFileSync(at('a'), 'x');
		const refused = copy(at('a'), at('b'), { freeFloorBytes: Number.MAX_SAFE_INTEGER });
		await expect(refused).rejects.toMatchObject({ reason: 'DISK_FULL', sent: { reason: { reason: 'DISK_FULL' } } });
		expect(readdirSync(folder)).toEqual(['a']);
	});

	test('a sparse file stays sparse', async () => {
		writeFileSync(at('a'), 'start');
		truncateSync(at('a'), 64 * 1024 * 1024);
		await copy(at('a'), at('b'));
		expect(statSync(at('b')).size).toBe(64 * 1024 * 1024);
		expect(statSync(at('b')).blocks * 512).toBeLessThan(2 * 1024 * 1024);
	});
});

describe('a copy that was cut', () => {
	test('sends nothing to where nobody is: a pipe that takes everything would take the whole file', async () => {
		let taken = 0;
		const link = new CopyLink({
			incoming: Readable.from([]),
			write: async () => {
				taken += 1;
			},
		});
		await expect(link.next()).rejects.toMatchObject({ reason: 'COPY_INTERRUPTED' });
		await expect(link.sendData(random(1))).rejects.toMatchObject({ reason: 'COPY_INTERRUPTED' });
		expect(taken).toBe(0);
	});

	test('says why the other side left, where it did before its end of the pipe was gone', async () => {
		const broken = Promise.withResolvers<void>();
		const refusal = encodeRefusal({ reason: 'DISK_FULL', message: 'no room' });
		const link = new CopyLink({
			incoming: (async function* () {
				await broken.promise;
				for (let answer = 0; answer < 100; answer += 1) yield encodeFrame(COPY_FRAME.done, 0, new Uint8Array());
				yield encodeFrame(COPY_FRAME.refused, 0, refusal);
			})(),
			write: async () => {
				broken.resolve();
				throw new Error('EPIPE');
			},
		});
		await expect(link.sendData(random(1))).rejects.toThrow('no room');
	});

	test('leaves nothing under the name, and the next one sends only the rest', async () => {
		const bytes = random(3_000_000);
		writeFileSync(at('a'), bytes);
		await expect(copy(at('a'), at('b'), { cutAfterBytes: 2_000_000 })).rejects.toMatchObject({
			reason: 'COPY_INTERRUPTED',
		});
		expect(existsSync(at('b'))).toBe(false);
		const [partial] = partials();
		expect(statSync(at(String(partial))).mode & 0o777).toBe(0o600);
		// As a later process finds it: its writer is gone.
		execFileSync('mv', [at(String(partial)), at(String(partial).replace(`.${owner.pid}-`, '.999999999-'))]);
		const progress = await copy(at('a'), at('b'));
		expect(progress[0]?.bytes).toBeGreaterThan(1_500_000);
		expect(readFileSync(at('b')).equals(bytes)).toBe(true);
		expect(partials()).toEqual([]);
	});

	test('waits for a writer that is about to end, and goes on where it stopped', async () => {
		const bytes = random(3_000_000);
		writeFileSync(at('a'), bytes);
		await copy(at('a'), at('b'), { cutAfterBytes: 2_000_000 }).catch(() => {});
		const [left = ''] = partials();
		const writer = spawn('sleep', ['600']);
		const { pid, startTimeTicks } = present(processIdentity(writer.pid ?? 0), 'it runs');
		execFileSync('mv', [
			at(String(left)),
			at(`.b.${pid}-${startTimeTicks}-${owner.bootId}-0123456789abcdef.gpuaas-partial`),
		]);
		const ended = once(writer, 'exit');
		let looks = 0;
		const clock: Clock = {
			...systemClock,
			monotonic: () => 0,
			setTimer: (callback) => {
				looks += 1;
				if (looks === 3) writer.kill('SIGKILL');
				void (looks < 3 ? Promise.resolve() : ended).then(callback);
				return { cancel: () => {} };
			},
		};
		const progress = await copy(at('a'), at('b'), { clock });
		expect(looks).toBe(3);
		expect(progress[0]?.bytes).toBeGreaterThan(1_500_000);
		expect(readFileSync(at('b')).equals(bytes)).toBe(true);
	});

	test('begins anew when the source is another file by now', async () => {
		writeFileSync(at('a'), random(1_000_000));
		await copy(at('a'), at('b'), { cutAfterBytes: 700_000 }).catch(() => {});
		const [partial = ''] = partials();
		execFileSync('mv', [at(String(partial)), at(String(partial).replace(`.${owner.pid}-`, '.999999999-'))]);
		writeFileSync(at('a'), Buffer.alloc(1_000_000, 'z'));
		const progress = await copy(at('a'), at('b'));
		expect(progress[0]?.bytes).toBeLessThan(300_000);
		expect(readFileSync(at('b')).equals(readFileSync(at('a')))).toBe(true);
	});

	test('takes over neither a file that is being written nor a link', async () => {
		writeFileSync(at('a'), 'content');
		writeFileSync(at('secret'), 'secret', { mode: 0o600 });
		const living = present(processIdentity(1), 'init runs');
		const busy = `.b.1-${living.startTimeTicks}-${living.bootId}-0123456789abcdef.gpuaas-partial`;
		writeFileSync(at(busy), 'con', { mode: 0o600 });
		symlinkSync(at('secret'), at(`.b.999999999-1-${owner.bootId}-0123456789abcdef.gpuaas-partial`));
		// Its writer is waited for, which costs nothing here.
		let nowMs = 0;
		const clock = { ...systemClock, monotonic: () => (nowMs += 1000) };
		await copy(at('a'), at('b'), { clock });
		expect(readFileSync(at('b'), 'utf8')).toBe('content');
		expect([readFileSync(at('secret'), 'utf8'), readFileSync(at(busy), 'utf8')]).toEqual(['secret', 'con']);
	});

	test('one bit that changed on the way is found, and nothing is kept', async () => {
		writeFileSync(at('a'), random(500_000));
		const broken = copy(at('a'), at('b'), { flipAt: 300_000 });
		await expect(broken).rejects.toMatchObject({ reason: 'FILE_CHECKSUM_MISMATCH' });
		expect(readdirSync(folder)).toEqual(['a']);
	});
});

describe('a folder', () => {
	function tree(): void {
		mkdirSync(at('d', 'sub', 'empty'), { recursive: true });
		writeFileSync(at('d', 'one'), '1');
		writeFileSync(at('d', 'sub', 'two'), random(300_000));
		chmodSync(at('d', 'sub'), 0o550);
		symlinkSync('../../etc/passwd', at('d', 'sub-link'));
		writeFileSync(Buffer.concat([Buffer.from(at('d')), Buffer.from('/b\xe4d', 'latin1')]), 'latin1 name');
	}
	afterEach(() => {
		if (existsSync(at('d', 'sub'))) chmodSync(at('d', 'sub'), 0o700);
		if (existsSync(at('e', 'sub'))) chmodSync(at('e', 'sub'), 0o700);
	});

	test('arrives with all in it: names of any bytes, empty folders, links as links, modes', async () => {
		tree();
		await copy(at('d'), at('e'), { recursive: true });
		const listed = (root: string) =>
			execFileSync('find', ['.', '-printf', '%P %y %m %l\n'], { cwd: at(root), encoding: 'latin1' })
				.split('\n')
				.sort();
		expect(listed('e')).toEqual(listed('d'));
		expect(readFileSync(at('e', 'sub', 'two')).equals(readFileSync(at('d', 'sub', 'two')))).toBe(true);
	});

	test('a second run sends nothing again and refuses what differs', async () => {
		tree();
		await copy(at('d'), at('e'), { recursive: true });
		rmSync(at('e', 'sub-link'));
		const progress = await copy(at('d', 'sub'), at('e'), { recursive: true });
		expect(progress.map(({ state }) => state)).toEqual(['unchanged']);
		appendFileSync(at('e', 'one'), 'more');
		await expect(copy(at('d'), folder, { recursive: true })).resolves.toBeDefined();
		await expect(copy(at('d', 'one'), at('e'))).rejects.toMatchObject({ reason: 'FILE_EXISTS' });
	});

	test('whose copy was cut has the modes of its folders after the next run, and the times of those that were whole', async () => {
		for (const name of ['1', '2', '3']) {
			mkdirSync(at('d', name), { recursive: true });
			writeFileSync(at('d', name, 'file'), random(100_000));
			chmodSync(at('d', name), 0o755);
			utimesSync(at('d', name), 1000, 1000);
		}
		chmodSync(at('d', '2'), 0o550);
		chmodSync(at('d'), 0o750);
		mkdirSync(at('e'));
		await expect(copy(at('d'), at('e'), { recursive: true, cutAfterBytes: 150_000 })).rejects.toThrow();
		const cut = partials().map(String);
		expect(cut).toHaveLength(1);
		// Its owner may go on with it, whatever the mode of what is copied.
		for (const { name } of readdirSync(at('e', 'd'), { withFileTypes: true }))
			expect(statSync(at('e', 'd', name)).mode & 0o700).toBe(0o700);
		await copy(at('d'), at('e'), { recursive: true });
		const modes = ['.', '1', '2', '3'].map((name) => statSync(at('e', 'd', name)).mode & 0o077);
		expect(modes).toEqual([0o050, 0o055, 0o050, 0o055]);
		const whole = ['1', '2', '3'].filter((name) => !cut.some((path) => path.includes(`/${name}/`)));
		expect(whole.map((name) => statSync(at('e', 'd', name)).mtimeMs)).toEqual([1_000_000, 1_000_000]);
	});

	test('that several copies fill at once is whole, and what one of them finds done is not replaced', async () => {
		for (const name of ['1', '2', '3']) {
			mkdirSync(at('d', name, 'sub'), { recursive: true });
			writeFileSync(at('d', name, 'file'), name);
			symlinkSync('file', at('d', name, 'link'));
		}
		mkdirSync(at('e'));
		// No writer is waited for: each would be this very process.
		let nowMs = 0;
		const clock = { ...systemClock, monotonic: () => (nowMs += 10_000) };
		const options = { recursive: true, clock };
		const copies = [options, { ...options, force: true }, options].map((each) => copy(at('d'), at('e'), each));
		for (const result of await Promise.allSettled(copies))
			if (result.status === 'rejected') expect(result.reason).toMatchObject({ reason: 'FILE_EXISTS' });
		await copy(at('d'), at('e'), options);
		const listed = (root: string) =>
			execFileSync('find', ['.', '-printf', '%P %y %l\n'], { cwd: at(root), encoding: 'utf8' })
				.split('\n')
				.sort();
		expect(listed('e/d')).toEqual(listed('d'));
	});

	test('goes on with the group of the shared folder that it arrives in', async () => {
		mkdirSync(at('d', 'sub'), { recursive: true });
		chmodSync(at('d', 'sub'), 0o750);
		mkdirSync(at('e'));
		chmodSync(at('e'), 0o2770);
		await copy(at('d'), at('e'), { recursive: true });
		expect(statSync(at('e', 'd', 'sub')).mode & 0o7777).toBe(0o2750);
	});

	test('that somebody replaces by a link before its mode is set leaves alone what that leads to', async () => {
		mkdirSync(at('d', 'sub'), { recursive: true });
		chmodSync(at('d', 'sub'), 0o755);
		writeFileSync(at('d', 'sub', 'file'), 'x');
		mkdirSync(at('shut'), { mode: 0o700 });
		const copied = copy(at('d'), at('e'), {
			recursive: true,
			onSent: ({ state }) => {
				if (state !== 'done') return;
				renameSync(at('e', 'sub'), at('e', 'moved'));
				symlinkSync(at('shut'), at('e', 'sub'));
			},
		});
		await expect(copied).rejects.toMatchObject({ reason: 'FILE_UNSUPPORTED' });
		expect(statSync(at('shut')).mode & 0o777).toBe(0o700);
	});

	test('from which files are removed while it is copied arrives with the others, and it is said', async () => {
		mkdirSync(at('d'));
		for (let index = 0; index < 8; index += 1) writeFileSync(at('d', String(index)), 'x');
		let left = readdirSync(at('d'));
		const progress = await copy(at('d'), at('e'), {
			recursive: true,
			onSent: ({ state }) => {
				if (state !== 'done' || left.length < 8) return;
				left = readdirSync(at('e'));
				for (const name of readdirSync(at('d'))) if (!left.includes(name)) rmSync(at('d', name));
			},
		});
		expect(left).toHaveLength(1);
		expect(readdirSync(at('e'))).toEqual(left);
		expect(progress.filter(({ message }) => message?.includes('was removed meanwhile'))).toHaveLength(7);
	});

	test('a pipe or a device in it is left out and said to be', async () => {
		mkdirSync(at('d'));
		execFileSync('mkfifo', [at('d', 'pi\npe')]);
		writeFileSync(at('d', 'file'), 'x');
		const progress = await copy(at('d'), at('e'), { recursive: true });
		expect(progress).toContainEqual(
			expect.objectContaining({ state: 'skipped', message: 'd/pi\\npe is neither a file, a folder nor a link' }),
		);
		expect(readdirSync(at('e'))).toEqual(['file']);
	});
});

describe('a sender that can not be trusted', () => {
	async function received(
		frames: readonly (readonly [number, object | Buffer])[],
		asked?: CopyDestination['asked'],
	): Promise<unknown> {
		const down = new PassThrough();
		const up = new PassThrough();
		up.resume();
		for (const [type, what] of frames)
			down.write(encodeFrame(type, 0, Buffer.isBuffer(what) ? what : Buffer.from(JSON.stringify(what))));
		down.end();
		mkdirSync(at('into'), { recursive: true });
		const destination = { path: at('into'), force: true, freeFloorBytes: 0, owner, clock: systemClock, asked };
		return await receiveTree(streamPipe(down, up), destination, () => {}).then(
			() => 'taken',
			(error: { reason?: string }) => error.reason ?? error,
		);
	}
	const file = (path: string) => ({ path, kind: 'file', mode: 0o644, mtimeMs: 0, size: 1, target: '' });

	test.each(['../x', '/etc/x', 'a/../../x', 'a//b', '.', '', 'a\0b', 'Ā', 'n'.repeat(256)])(
		'the path %j is refused',
		async (path) => {
			expect(await received([[COPY_FRAME.entry, file(path)]])).toBe('CHANNEL_PROTOCOL');
			expect(readdirSync(folder, { recursive: true })).toEqual(['into']);
		},
	);

	const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
	const folderEntry = { path: 'd', kind: 'directory', mode: 0o755, mtimeMs: 0, size: 0, target: '' };
	const linkEntry = { path: 'd', kind: 'link', mode: 0o777, mtimeMs: 0, size: 0, target: 'nowhere' };

	test.each([
		['another name', true, { ...folderEntry, path: '.bashrc' }],
		['another name in a folder', true, file('.ssh/authorized_keys')],
		['a folder for a file', false, folderEntry],
		['a file below one', false, file('d/x')],
		['a link for a file', false, linkEntry],
		['a link for a folder', true, linkEntry],
	])('%s is refused, and nothing is there', async (_, recursive, entry) => {
		const frames = [
			[COPY_FRAME.entry, entry],
			[COPY_FRAME.finish, {}],
		] as const;
		expect(await received(frames, { path: '/far/away/d', recursive })).toBe('CHANNEL_PROTOCOL');
		expect(readdirSync(folder, { recursive: true })).toEqual(['into']);
	});

	test('what was asked for is taken, also from a path that has no name', async () => {
		const root = { ...folderEntry, path: 'root' };
		const frames = [
			[COPY_FRAME.entry, root],
			[COPY_FRAME.entry, { ...linkEntry, path: 'root/out' }],
			[COPY_FRAME.finish, {}],
		] as const;
		expect(await received(frames, { path: './', recursive: true })).toBe('taken');
		expect(readdirSync(folder, { recursive: true }).sort()).toEqual(['into', 'into/root', 'into/root/out']);
	});

	test('nothing is written through a link that it sent, or that was there', async () => {
		const dir = { path: 'd', kind: 'directory', mode: 0o755, mtimeMs: 0, size: 0, target: '' };
		const link = { path: 'd/out', kind: 'link', mode: 0o777, mtimeMs: 0, size: 0, target: folder };
		expect(
			await received([
				[COPY_FRAME.entry, dir],
				[COPY_FRAME.entry, link],
				[COPY_FRAME.entry, file('d/out/x')],
			]),
		).toBe('FILE_NOT_FOUND');
		rmSync(at('into', 'd'), { recursive: true });
		symlinkSync(folder, at('into', 'd'));
		expect(await received([[COPY_FRAME.entry, file('d/x')]])).toBe('FILE_UNSUPPORTED');
		expect(readdirSync(folder)).toEqual(['into']);
		expect(readlinkSync(at('into', 'd'))).toBe(folder);
	});

	test('more bytes than announced, a wrong start and a wrong size are refused, and nothing is kept', async () => {
		const start = [COPY_FRAME.start, { bytes: 0, sha256: empty }] as const;
		const entry = [COPY_FRAME.entry, file('x')] as const;
		expect(await received([entry, start, [COPY_FRAME.data, Buffer.from('too much')]])).toBe('CHANNEL_PROTOCOL');
		expect(await received([entry, [COPY_FRAME.start, { bytes: 7, sha256: empty }]])).toBe('CHANNEL_PROTOCOL');
		expect(await received([entry, start, [COPY_FRAME.end, { bytes: 0, sha256: empty }]])).toBe(
			'FILE_CHECKSUM_MISMATCH',
		);
		expect(readdirSync(at('into'))).toEqual([]);
	});

	test('whatever it says is an entry, a typed refusal, and nothing else', () => {
		fc.assert(
			fc.property(
				fc.oneof(
					fc.json(),
					fc.string(),
					fc
						.record({
							...Object.fromEntries(
								['path', 'kind', 'mode', 'mtimeMs', 'size', 'target'].map((key) => [key, fc.anything()]),
							),
						})
						.map((value) => JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? 0 : each)) ?? ''),
				),
				(text) => {
					try {
						decodeEntry({ type: 1, channel: 0, payload: Buffer.from(text) });
					} catch (error) {
						expect(error).toMatchObject({ reason: 'CHANNEL_PROTOCOL' });
					}
				},
			),
		);
	});
});
