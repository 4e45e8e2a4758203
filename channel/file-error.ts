import { GpuaasError } from '../kit/error.ts';
import { shownPath } from './copy-entry.ts';

/** What the file system said about `path` (a byte string), as a typed refusal. */
export function fileError(path: string, thrown: unknown): unknown {
	const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
	const name = shownPath(path);
	switch (code) {
		case 'ENOENT':
			return refuse('NOT_FOUND', 'FILE_NOT_FOUND', `there is no ${name}; check the path, of both ends`);
		case 'EACCES':
		case 'EPERM':
		case 'EROFS':
			return refuse(
				'PERMISSION_DENIED',
				'FILE_NOT_PERMITTED',
				`the account may not do this with ${name} (${code}); choose another path, or by --user another account of the node`,
			);
		case 'ENOSPC':
		case 'EDQUOT':
			return refuse('RESOURCE_EXHAUSTED', 'DISK_FULL', `the disk of ${name} is full; free space there and copy again`);
		case 'EFBIG':
			return refuse('RESOURCE_EXHAUSTED', 'DISK_FULL', `${name} is larger than its file system or a limit lets it be`);
		case 'ENOTDIR':
		case 'EISDIR':
		case 'ELOOP':
		case 'ENAMETOOLONG':
		case 'ENXIO':
			return refuse('FAILED_PRECONDITION', 'FILE_UNSUPPORTED', `${name} is not what the copy needs there (${code})`);
		default:
			return thrown;
	}
}

export function refuse(code: GpuaasError['code'], reason: string, message: string): GpuaasError {
	return new GpuaasError({ code, reason, message });
}

/** Runs `work`; what the file system throws becomes a refusal about `path`. */
export async function about<T>(path: string, work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		throw fileError(path, error);
	}
}
