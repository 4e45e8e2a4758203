import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { acceptsGzip, compressed } from './gzip.ts';

test.each<[string | undefined, boolean]>([
	[undefined, false],
	['', false],
	['gzip', true],
	['GZIP;q=0.5', true],
	['deflate, gzip;q=1.0, *;q=0.5', true],
	['gzip;q=0', false],
	['gzip;q=0, *', false],
	['*', true],
	['*;q=0', false],
	['br, deflate', false],
	['identity', false],
])('Accept-Encoding %s: %s', (header, expected) => {
	expect(acceptsGzip(header)).toBe(expected);
});

test('a page comes out as it went in, and a short answer stays as it is', async () => {
	const page = 'gpuaas_node_load1{node="é"} 1\n'.repeat(1000);
	const bytes = await compressed(page);
	expect(gunzipSync(bytes ?? '').toString()).toBe(page);
	expect(bytes?.length).toBeLessThan(page.length / 10);
	expect(compressed('ok\n')).toBeUndefined();
});
