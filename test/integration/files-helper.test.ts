import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
	chmodSync,
	chownSync,
	cpSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	truncateSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { encodeFileTask, type FileTask } from '../../agent/files/file-task.ts';
import { type CopyDestination, receiveTree } from '../../channel/copy-receiver.ts';
import { type CopyProgress, sendTree } from '../../channel/copy-sender.ts';
import { streamPipe } from '../../channel/pipe.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { HelperFiles, NOBODY_UID } from './helper-files.ts';

/** The real helper, as an account without rights, and this process as the person's command. */
describe.skipIf(lacks('root', 'setpriv', 'mount'))('the files helper', () => {
	let files: HelperFiles;
	let folder = '';
	beforeAll(() => {
		files = new HelperFiles();
	});
	afterAll(() => files[Symbol.dispose]());
	beforeEach(() => {
		folder = mkdtempSync(join(tmpdir(), 'gpuaas-files-'));
		chownSync(folder, NOBODY_UID, NOBODY_UID);
		chmodSync(folder, 0o755);
	});
	afterEach(() => {
		spawnSync('umount', ['--lazy', join(folder, 'small')]);
		rmSync(folder, { recursive: true, force: true });
	});
	const at = (...names: string[]) => join(folder, ...names);
	const start = (task: FileTask) => files.start('files', encodeFileTask(task), folder);
	const pipeOf = (child: ChildProcessWithoutNullStreams) => {
		child.stdin.on('error', () => {});
		return streamPipe(child.stdout, child.stdin);
	};

	async function download(path: string, to: string, more: Partial<CopyDestination> = {}) {
		const child = start({ access: 'read', path, recursive: true });
		const owner = present(processIdentity(process.pid), 'this process runs');
		const progress: CopyProgress[] = [];
		try {
			const asked = { path, recursive: true };
			await receiveTree(
				pipeOf(child),
				{ path: to, force: false, freeFloorBytes: 0, owner, clock: systemClock, asked, ...more },
				(each) => progress.push(each),
			);
		} finally {
			child.stdin.end();
			await once(child, 'close');
		}
		return progress;
	}

	function upload(
		from: string,
		path: string,
		onProgress: (progress: CopyProgress, child: ChildProcessWithoutNullStreams) => void = () => {},
	) {
		const child = start({ access: 'write', path, force: false, freeFloorBytes: 0 });
		const closed = once(child, 'close');
		return sendTree(pipeOf(child), { path: from, recursive: true }, (progress) => onProgress(progress, child)).finally(
			async () => {
				child.stdin.end();
				await closed;
			},
		);
	}

	test('writes as the account, relative to where it starts', async () => {
		writeFileSync(`${folder}-up`, 'hello');
		await upload(`${folder}-up`, 'there');
		rmSync(`${folder}-up`);
		expect([readFileSync(at('there'), 'utf8'), statSync(at('there')).uid]).toEqual(['hello', NOBODY_UID]);
	});

	test('no link leads it to what the account may not read, nor to where it may not write', async () => {
		mkdirSync(at('secret'), { mode: 0o700 });
		writeFileSync(at('secret', 'key'), 'top secret', { mode: 0o600 });
		symlinkSync(at('secret', 'key'), at('link'));
		symlinkSync(at('secret'), at('folder'));
		mkdirSync(at('tree'));
		symlinkSync(at('secret', 'key'), at('tree', 'link'));
		for (const path of ['link', 'folder', 'folder/key', 'secret/key', '/etc/shadow'])
			await expect(download(path, at('out')), path).rejects.toMatchObject({
				reason: expect.stringMatching(/FILE_NOT_(PERMITTED|FOUND)/),
			});
		await download('tree', at('out'));
		expect(execFileSync('find', [at('out'), '-type', 'f'], { encoding: 'utf8' })).toBe('');
		writeFileSync(at('mine'), 'x');
		await expect(upload(at('mine'), 'folder/new')).rejects.toMatchObject({ reason: 'FILE_NOT_PERMITTED' });
		expect(readdirSync(at('secret'))).toEqual(['key']);
	});

	test('killed in the middle it leaves nothing under the name, and the next copy goes on', async () => {
		writeFileSync(at('big'), Buffer.alloc(24 * 1024 * 1024, 'ab'));
		const cut = upload(at('big'), 'copy', ({ bytes }, child) => {
			if (bytes > 8 * 1024 * 1024) child.kill('SIGKILL');
		});
		await expect(cut).rejects.toBeDefined();
		expect(existsSync(at('copy'))).toBe(false);
		const starts: number[] = [];
		await upload(at('big'), 'copy', ({ bytes }) => void starts.push(bytes));
		expect(starts[0]).toBeGreaterThan(4 * 1024 * 1024);
		expect(readFileSync(at('copy')).equals(readFileSync(at('big')))).toBe(true);
		expect(readdirSync(folder).sort()).toEqual(['big', 'copy']);
	});

	test('a gigabyte passes in little memory', async () => {
		writeFileSync(at('huge'), 'not all zero');
		truncateSync(at('huge'), 1024 ** 3);
		let peakKb = 0;
		await upload(at('huge'), 'copy', (_, { pid }) => {
			const status = existsSync(`/proc/${pid}/status`) ? readFileSync(`/proc/${pid}/status`, 'utf8') : '';
			peakKb = Math.max(peakKb, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
		});
		expect(statSync(at('copy')).size).toBe(1024 ** 3);
		expect(peakKb).toBeGreaterThan(0);
		expect(peakKb).toBeLessThan(200 * 1024);
	});

	test('a disk that runs full in the middle is said to be full, and nothing is left on it', async () => {
		mkdirSync(at('small'));
		const mounted = spawnSync('mount', [
			'-t',
			'tmpfs',
			'-o',
			`size=8m,mode=0755,uid=${NOBODY_UID}`,
			'none',
			at('small'),
		]);
		expect(String(mounted.stderr)).toBe('');
		writeFileSync(at('big'), Buffer.alloc(6 * 1024 * 1024, 'x'));
		let isFilled = false;
		const copied = upload(at('big'), 'small/copy', () => {
			// Room was there at the start; somebody else takes it.
			if (isFilled) return;
			isFilled = true;
			spawnSync('sh', ['-c', 'head -c 7000000 /dev/urandom > filler'], { cwd: at('small') });
		});
		await expect(copied).rejects.toMatchObject({ reason: 'DISK_FULL' });
		await eventually('the partial file is gone', async () => readdirSync(at('small')).join() === 'filler');
		await expect(upload(at('big'), 'small/copy')).rejects.toThrow(/bytes are free|are free/);
	});

	test('it runs also from a checkout that the account may not enter', async () => {
		const checkout = at('checkout');
		mkdirSync(checkout, { mode: 0o700 });
		const root = join(import.meta.dirname, '../..');
		for (const part of ['package.json', 'kit', 'channel', 'agent'])
			cpSync(join(root, part), join(checkout, part), { recursive: true });
		const script = `import { ProgramFiles } from '${checkout}/agent/terminal/program-files.ts';
			import { spawnSync } from 'node:child_process';
			using files = new ProgramFiles();
			const drop = ['--reuid', '${NOBODY_UID}', '--regid', '${NOBODY_UID}', '--clear-groups', '--'];
			const ran = spawnSync('setpriv', [...drop, ...files.argv('files', 'no task')], { cwd: '/' });
			process.stdout.write(files.argv('files', '')[0] + ' ' + ran.status + ' ' + ran.stderr);`;
		const ran = spawnSync(process.execPath, [
			'--disable-warning=ExperimentalWarning',
			'--input-type=module',
			'-e',
			script,
		]);
		const [program = '', status, ...said] = String(ran.stdout).split(' ');
		// It ran, and read its argument: no JSON. What it ran from is gone again.
		expect([String(ran.stderr), program.startsWith(tmpdir()), status, said.join(' ')]).toEqual([
			'',
			true,
			'1',
			expect.stringContaining('JSON'),
		]);
		expect(existsSync(program)).toBe(false);
	});

	test('an argument that is no task is refused, and ends at once', async () => {
		const child = files.start('files', '{"access":"everything","path":"/"}');
		const [code] = (await once(child, 'close')) as [number];
		expect(code).toBe(1);
	});
});
