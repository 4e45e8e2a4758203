import { assert } from '../../kit/assert.ts';

/** What one helper process may do with files. Made by the agent from a grant and its local policy. */
export type FileTask =
	| { readonly access: 'read'; readonly path: string; readonly recursive: boolean }
	| {
			readonly access: 'write';
			readonly path: string;
			readonly force: boolean;
			/** Free space that must stay on the file system. */
			readonly freeFloorBytes: number;
	  };

export function encodeFileTask(task: FileTask): string {
	return JSON.stringify(task);
}

/** Throws on anything else: the agent is the only one that starts the helper. */
export function decodeFileTask(argument: string): FileTask {
	const { access, path, recursive, force, freeFloorBytes } = JSON.parse(argument) as Record<string, unknown>;
	assert(typeof path === 'string', 'a file task has a path');
	if (access === 'read') return { access, path, recursive: recursive === true };
	assert(access === 'write' && typeof freeFloorBytes === 'number', 'a file task reads or writes');
	return { access, path, force: force === true, freeFloorBytes };
}
