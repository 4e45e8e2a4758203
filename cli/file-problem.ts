import { GpuaasError } from '../kit/error.ts';

const PROBLEMS: Readonly<Record<string, string>> = {
	ENOENT: 'there is no such file or folder',
	EACCES: 'you may not open it',
	EPERM: 'you may not do this with it',
	EISDIR: 'it is a folder, and a file is needed',
	ENOTDIR: 'a part of its path is no folder',
	EEXIST: 'it is there already',
	ENOSPC: 'its disk is full',
	EROFS: 'its disk is read-only',
};

/** A file that somebody named and that can't be used, in words; undefined for everything else. */
export function fileProblem(thrown: unknown): GpuaasError | undefined {
	const { code = '', path } = thrown instanceof Error ? (thrown as NodeJS.ErrnoException) : {};
	const problem = PROBLEMS[code];
	if (problem === undefined) return undefined;
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'INVALID_REQUEST',
		message: `${path ?? 'a file that was named'}: ${problem} (${code})`,
		cause: thrown,
	});
}
