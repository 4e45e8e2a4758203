import { assert } from '../../../kit/assert.ts';

/** The paths at and below `path`, as a half-open range: `0` is the character after `/`. */
export function subtree(path: string): readonly [from: string, below: string] {
	assert(path.startsWith('/') && path.endsWith('/'), `${path} is not a path of a scope`);
	return [path, `${path.slice(0, -1)}0`];
}
