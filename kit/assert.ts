/**
 * Assertions stay on in production: a broken invariant must stop the operation that met it, never be carried on.
 * For bad input throw `GpuaasError` (kit/error.ts) instead; an assertion says that *our* code is wrong.
 */
export class AssertionError extends Error {
	override readonly name = 'AssertionError';
}

/** Throws `AssertionError` unless `condition` holds. */
export function assert(condition: unknown, message: string): asserts condition {
	if (!condition) throw new AssertionError(message);
}

/** Returns `value`, or throws `AssertionError` when it is null or undefined. */
export function present<T>(value: T | null | undefined, message: string): T {
	if (value === null || value === undefined) throw new AssertionError(message);
	return value;
}

/** Exhaustiveness: a `switch` that reaches this line does not compile. */
export function unreachable(value: never): never {
	throw new AssertionError(`unreachable value: ${String(value)}`);
}
