import { expect, test } from 'vitest';
import { CODE_NUMBER, GpuaasError, messageOf } from './error.ts';

test('an error carries its facts, and they cannot be changed', () => {
	const cause = new Error('disk');
	const metadata = { node: 'n1' };
	const error = new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'NODE_NOT_FOUND',
		message: 'no node n1',
		metadata,
		cause,
	});
	metadata.node = 'n2';
	expect(error).toMatchObject({
		name: 'GpuaasError',
		code: 'NOT_FOUND',
		reason: 'NODE_NOT_FOUND',
		message: 'no node n1',
		metadata: { node: 'n1' },
		cause,
	});
	expect(() => Object.assign(error.metadata, { node: 'n3' })).toThrow(TypeError);
	expect('cause' in new GpuaasError({ code: 'INTERNAL', reason: 'INTERNAL', message: '' })).toBe(false);
});

test('what is not ours becomes INTERNAL and gives nothing away', () => {
	const ours = new GpuaasError({ code: 'ABORTED', reason: 'ETAG_MISMATCH', message: 'stale' });
	expect(GpuaasError.from(ours)).toBe(ours);
	for (const thrown of [new Error('password is hunter2'), 'text', undefined, null, { code: 'NOT_FOUND' }]) {
		const converted = GpuaasError.from(thrown);
		expect(converted).toMatchObject({ code: 'INTERNAL', reason: 'INTERNAL' });
		expect(converted.message).not.toContain('hunter2');
		expect(converted.cause).toBe(thrown);
	}
});

test('codes have the numbers of gRPC, each once', () => {
	const numbers = Object.values(CODE_NUMBER);
	expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, index) => index + 1));
	expect([CODE_NUMBER.INVALID_ARGUMENT, CODE_NUMBER.RESOURCE_EXHAUSTED, CODE_NUMBER.UNAUTHENTICATED]).toEqual([
		3, 8, 16,
	]);
});

test('anything thrown has a message', () => {
	expect([messageOf(new Error('a')), messageOf('b'), messageOf(undefined)]).toEqual(['a', 'b', 'undefined']);
});
