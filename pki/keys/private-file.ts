import {
	chmodSync,
	closeSync,
	constants,
	fchmodSync,
	fstatSync,
	fsyncSync,
	linkSync,
	lstatSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { hex, type Rng } from '../../kit/ids.ts';

/**
 * Files that only their owner may read: private keys and what stands beside them. A write is atomic and durable
 * (temporary file, fsync, rename, fsync of the folder); a read refuses a file or folder that others could have read
 * or replaced, because a key that leaked once must be rotated, not silently chmod-ed back. Called by keys/file.ts and
 * by the agent's identity store.
 */
const FILE_BYTES_MAX = 1024 * 1024;

function refuse(path: string, what: string, fix: string, cause?: unknown): never {
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'KEY_FILE_UNSAFE',
		message: `${path} ${what}, so the private key in it can't be trusted to be private; ${fix}`,
		...(cause === undefined ? {} : { cause }),
	});
}

function errorCode(thrown: unknown): string | undefined {
	return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
}

function checkOwner(path: string, uid: number): void {
	const me = process.geteuid?.();
	if (me !== undefined && uid !== me) {
		refuse(path, `belongs to uid ${uid} and this process runs as uid ${me}`, 'run as its owner, or move it away');
	}
}

/** Makes `folder` 0700 when it is missing, and refuses one that others may enter. */
export function preparePrivateFolder(folder: string): void {
	if (mkdirSync(folder, { recursive: true, mode: 0o700 }) !== undefined) {
		// mkdir's mode is masked by the umask, which may take even the owner's bits.
		chmodSync(folder, 0o700);
	}
	checkPrivateFolder(folder);
}

function checkPrivateFolder(folder: string): void {
	const stat = lstatSync(folder);
	if (!stat.isDirectory()) refuse(folder, 'is not a folder', 'move it away');
	checkOwner(folder, stat.uid);
	if ((stat.mode & 0o077) !== 0) {
		const mode = (stat.mode & 0o777).toString(8);
		refuse(folder, `has mode 0${mode}`, 'rotate the keys in it if others used this host, then chmod 0700');
	}
}

/** The bytes, or undefined when there is no such file. */
export function readPrivateFile(path: string): Buffer | undefined {
	let descriptor: number;
	try {
		// O_NOFOLLOW: a link could point at a file whose folder others may write.
		descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
	} catch (error) {
		if (errorCode(error) === 'ENOENT') return undefined;
		return refuse(path, `can't be opened (${messageOf(error)})`, 'look at its type, owner and mode', error);
	}
	try {
		const stat = fstatSync(descriptor);
		if (!stat.isFile()) refuse(path, 'is not a regular file', 'move it away');
		checkOwner(path, stat.uid);
		if ((stat.mode & 0o177) !== 0) {
			const mode = (stat.mode & 0o777).toString(8);
			refuse(path, `has mode 0${mode}`, 'rotate the key if others used this host, then chmod 0600');
		}
		if (stat.size > FILE_BYTES_MAX) refuse(path, `is larger than ${FILE_BYTES_MAX} bytes`, 'restore the right file');
		checkPrivateFolder(dirname(path));
		return readFileSync(descriptor);
	} finally {
		closeSync(descriptor);
	}
}

function syncFolder(folder: string): void {
	const descriptor = openSync(folder, constants.O_RDONLY);
	try {
		fsyncSync(descriptor);
	} finally {
		closeSync(descriptor);
	}
}

const TEMPORARY = /^\.[0-9a-f]{16}\.tmp$/;
/** No write takes that long: whoever began it was killed. */
const LEFT_BEHIND_MS = 3_600_000;

/** A temporary file whose writer died holds a private key that nobody knows of. */
function removeLeftBehind(folder: string, beforeMs: number): void {
	for (const name of readdirSync(folder)) {
		if (!TEMPORARY.test(name)) continue;
		const path = join(folder, name);
		// Another process may be about to rename it.
		const stat = lstatSync(path, { throwIfNoEntry: false });
		if (stat !== undefined && stat.mtimeMs < beforeMs) rmSync(path, { force: true });
	}
}

/**
 * Writes `bytes` to `path` (0600) so that a crash leaves the old file or the new one. `create` fails with
 * ALREADY_EXISTS instead of replacing: two processes that make one key at once must end up with one key.
 */
export function writePrivateFile(path: string, bytes: Uint8Array, mode: 'create' | 'replace', rng: Rng): void {
	const folder = dirname(path);
	checkPrivateFolder(folder);
	const temporary = join(folder, `.${hex(rng.bytes(8))}.tmp`);
	const descriptor = openSync(temporary, 'wx', 0o600);
	try {
		try {
			// The umask may have taken the owner's own bits.
			fchmodSync(descriptor, 0o600);
			for (let written = 0; written < bytes.length; ) {
				written += writeSync(descriptor, bytes, written);
			}
			fsyncSync(descriptor);
			removeLeftBehind(folder, fstatSync(descriptor).mtimeMs - LEFT_BEHIND_MS);
		} finally {
			closeSync(descriptor);
		}
		// link() refuses an existing name, which rename() would replace.
		if (mode === 'create') linkSync(temporary, path);
		else renameSync(temporary, path);
		syncFolder(folder);
	} catch (error) {
		if (errorCode(error) !== 'EEXIST') throw error;
		throw new GpuaasError({
			code: 'ALREADY_EXISTS',
			reason: 'ALREADY_EXISTS',
			message: `${path} exists already and was left as it is; load it instead of creating it`,
			cause: error,
		});
	} finally {
		rmSync(temporary, { force: true });
	}
}
