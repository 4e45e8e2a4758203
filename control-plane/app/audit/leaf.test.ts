import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { systemRng } from '../../../kit/ids.ts';
import { verifyCommitments } from '../../../pki/verify/audit-chain.ts';
import { type CanonicalValue, canonicalJson } from './canonical-json.ts';
import { LEAF_BYTES_MAX, type LeafContent, parseLeaf, sealLeaf } from './leaf.ts';

const content: LeafContent = {
	id: '0190c7a0-0000-7000-8000-000000000000',
	atMs: 1_800_000_000_123,
	actor: { kind: 'operator', id: 'p1', credentialId: 'k1' },
	action: 'nodes.cordon',
	target: 'nodes/1',
	result: 'ok',
	reason: '',
	method: 'gpuaas.nodes.v1.NodeService/CordonNode',
	correlationId: 'c',
	requestId: 'r',
	organization: 'acme',
	custody: 'tenant',
	beforeSha256: 'aa',
	afterSha256: 'bb',
	detail: { z: 1, a: 'text "quoted"', '10': true, '9': 1.5 },
	personal: { actor: 'Ada', peer: '192.0.2.1', empty: '' },
};

test('a leaf is canonical JSON with its version inside', () => {
	const { leaf } = sealLeaf(content, systemRng);
	const text = Buffer.from(leaf).toString('utf8');
	const value: CanonicalValue = JSON.parse(text);
	expect(canonicalJson(value)).toBe(text);
	expect(value).toMatchObject({ v: 1, at: '2027-01-15T08:00:00.123Z', action: 'nodes.cordon', custody: 'tenant' });
	expect(parseLeaf(leaf)?.detail).toEqual(content.detail);
});

test('any content gives a canonical leaf', () => {
	const text = fc.string({ unit: 'binary' });
	fc.assert(
		fc.property(text, fc.dictionary(text, fc.oneof(text, fc.integer(), fc.boolean())), (some, detail) => {
			const { leaf } = sealLeaf({ ...content, target: some, requestId: some, detail }, systemRng);
			const printed = Buffer.from(leaf).toString('utf8');
			expect(canonicalJson(JSON.parse(printed))).toBe(printed);
		}),
	);
});

test('what is personal stands in the leaf as a commitment only', () => {
	const { leaf, clear } = sealLeaf(content, systemRng);
	expect(Buffer.from(leaf).toString('utf8')).not.toMatch(/Ada|192\.0\.2\.1/);
	const fields: Record<string, { salt: string; value: string }> = JSON.parse(clear ?? '');
	expect(Object.keys(fields)).toEqual(['actor', 'peer']);
	const { salt = '', value } = fields.actor ?? {};
	expect(value).toBe('Ada');
	expect(salt).toMatch(/^[0-9a-f]{32}$/);
	expect(salt).not.toBe(fields.peer?.salt);
	const digest = createHash('sha256').update(Buffer.from(salt, 'hex')).update('Ada').digest('hex');
	expect(parseLeaf(leaf)?.personal.actor).toBe(digest);
	expect(verifyCommitments(leaf, clear ?? '')).toEqual([]);
	const other = JSON.stringify({ ...fields, actor: { salt, value: 'Eve' }, extra: { salt, value: 'x' } });
	expect(verifyCommitments(leaf, other)).toEqual([
		{ field: 'actor', what: 'another value' },
		{ field: 'extra', what: 'not in the leaf' },
	]);
	const again = sealLeaf(content, systemRng);
	expect(Buffer.from(again.leaf).equals(leaf)).toBe(false);
	expect(sealLeaf({ ...content, personal: {} }, systemRng).clear).toBeNull();
});

test('a leaf has at most what a log entry can hold', () => {
	const fits = sealLeaf({ ...content, detail: { a: 'x'.repeat(64_000) } }, systemRng);
	expect(fits.leaf.length).toBeLessThanOrEqual(LEAF_BYTES_MAX);
	expect(() => sealLeaf({ ...content, detail: { a: 'x'.repeat(LEAF_BYTES_MAX) } }, systemRng)).toThrow('limit');
});

test('bytes that are no leaf are not read as one', () => {
	for (const text of ['', '{', '[]', 'null', '{"v":1}']) expect(parseLeaf(Buffer.from(text))).toBeUndefined();
});

// RFC 8785 section 3.2.3 (sorting), 3.2.2.3 (numbers) and 3.2.2.2 (strings).
test('canonical JSON is that of RFC 8785', () => {
	const sorted = {
		'\u20ac': 'Euro',
		'\r': 'CR',
		'\ufb33': 'Dalet',
		'1': 'One',
		'\ud83d\ude00': 'Smiley',
		'\u0080': 'C',
		'\u00f6': 'o',
	};
	expect([...canonicalJson(sorted).matchAll(/:"(\w+)"/g)].map((match) => match[1])).toEqual([
		'CR',
		'One',
		'C',
		'o',
		'Euro',
		'Smiley',
		'Dalet',
	]);
	expect(canonicalJson([Number('333333333.33333329'), 1e30, 4.5, 2e-3, 1e-27, -0, null, true])).toBe(
		'[333333333.3333333,1e+30,4.5,0.002,1e-27,0,null,true]',
	);
	expect(canonicalJson('€$\u000f\nA\'B"\\"/')).toBe('"€$\\u000f\\nA\'B\\"\\\\\\"/"');
	expect(() => canonicalJson(Number.NaN)).toThrow();
});
