/**
 * Permissions as numbers, so that what somebody holds is a set of bits. A number belongs to a name for the life of the
 * process and is never stored or sent.
 */
export type PermissionSet = Uint32Array;

const BITS = new Map<string, number>();

/** The number of a permission; names are those of the contract and of the built-in roles, so there are few. */
export function permissionBit(name: string): number {
	const known = BITS.get(name);
	if (known !== undefined) return known;
	const bit = BITS.size;
	BITS.set(name, bit);
	return bit;
}

/** Whether there is such a permission: for names that come from a request, which must never get a number. */
export function isPermission(name: string): boolean {
	return BITS.has(name);
}

export function holds(set: PermissionSet, bit: number): boolean {
	return ((set[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
}

export function isNone(set: PermissionSet): boolean {
	return set.every((word) => word === 0);
}

export const NO_PERMISSIONS: PermissionSet = new Uint32Array(0);

/** Names that nobody knows are left out: a permission of an older or newer version gives nothing. */
export function permissionSet(names: Iterable<string>): PermissionSet {
	const set = new Uint32Array((BITS.size + 31) >>> 5);
	for (const name of names) {
		const bit = BITS.get(name);
		if (bit !== undefined) set[bit >>> 5] = (set[bit >>> 5] ?? 0) | (1 << (bit & 31));
	}
	return set;
}

export function union(left: PermissionSet, right: PermissionSet): PermissionSet {
	const [short, long] = left.length < right.length ? [left, right] : [right, left];
	const set = long.slice();
	for (let word = 0; word < short.length; word += 1) set[word] = (set[word] ?? 0) | (short[word] ?? 0);
	return set;
}

export function intersection(left: PermissionSet, right: PermissionSet): PermissionSet {
	const set = left.slice(0, Math.min(left.length, right.length));
	for (let word = 0; word < set.length; word += 1) set[word] = (set[word] ?? 0) & (right[word] ?? 0);
	return set;
}

/** All permissions that `patterns` mean: `tasks.create`, or `tasks.*`. */
export function matching(patterns: readonly string[]): PermissionSet {
	const prefixes = patterns.filter((pattern) => pattern.endsWith('.*')).map((pattern) => pattern.slice(0, -1));
	const exact = new Set(patterns);
	return permissionSet(
		[...BITS.keys()].filter((name) => exact.has(name) || prefixes.some((prefix) => name.startsWith(prefix))),
	);
}

/** What is in `wanted` and not in `held`, by name. */
export function lacking(held: PermissionSet, wanted: PermissionSet): readonly string[] {
	return [...BITS].flatMap(([name, bit]) => (holds(wanted, bit) && !holds(held, bit) ? [name] : [])).toSorted();
}
