import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ListNodesRequestSchema } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { digestOf, PageTokens } from './paging.ts';

const tokens = new PageTokens(new Uint8Array(32).fill(7));
const binding = { principalId: 'p', method: 'm', filterSha256: 'f' };

test('a token gives its cursor back, to its own caller, method and filter only', () => {
	fc.assert(
		fc.property(fc.string({ unit: 'binary' }), (cursor) => {
			const token = tokens.seal(binding, cursor);
			expect(tokens.open(binding, token)).toBe(cursor);
			for (const other of [
				{ principalId: 'q' },
				{ method: 'n' },
				{ filterSha256: 'g' },
				{ principalId: 'pm', method: '' },
			])
				expect(() => tokens.open({ ...binding, ...other }, token)).toThrow('page token');
		}),
	);
	expect(tokens.open(binding, '')).toBe('');
});

test('nobody can make or change one', () => {
	const token = tokens.seal(binding, 'node-17');
	const [body = '', signature = ''] = token.split('.');
	const other = Buffer.from('node-18').toString('base64url');
	for (const forged of [`${other}.${signature}`, body, `${body}.`, `${token}.x`, `${body}.${'A'.repeat(22)}`, 'x'])
		expect(() => tokens.open(binding, forged)).toThrow('page token');
	expect(() => new PageTokens(new Uint8Array(32)).open(binding, token)).toThrow('page token');
});

test('a digest doesn’t depend on the order of a map, and on every field that isn’t left out', () => {
	const digest = (selector: Record<string, string>, pageSize = 0) =>
		digestOf(ListNodesRequestSchema, create(ListNodesRequestSchema, { selector, pageSize }), ['pageSize', 'pageToken']);
	expect(digest({ a: '1', b: '2' })).toBe(digest({ b: '2', a: '1' }, 7));
	expect(digest({ a: '1' })).not.toBe(digest({ a: '2' }));
});
