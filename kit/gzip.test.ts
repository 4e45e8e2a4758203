import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { systemClock, yieldTurn } from './clock.ts';
import { acceptsGzip, compressed, freePacker } from './gzip.ts';
import { systemRng } from './ids.ts';

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

test('bodies of all lengths come out as they went in, many at once, one after another through the same engine', async () => {
	const noise = Array.from({ length: 30 }, () => Buffer.from(systemRng.bytes(60_000)).toString('base64')).join('');
	// Shorter and longer than what an engine keeps, with what UTF-8 has one to four bytes for, and more than one run of output.
	const bodies = [1024, 1_000_000, 3000, 2_000_000, 5000, 70_000].flatMap((length) => [
		'gpuaas_node_load1{node="é€😀"} 1\n'.repeat(length / 20),
		noise.slice(0, length),
	]);
	for (let round = 0; round < 2; round += 1) {
		const packed = await Promise.all(bodies.map((body) => compressed(body)));
		for (const [index, bytes] of packed.entries())
			expect(gunzipSync(bytes ?? '').toString() === bodies[index], `body ${index}`).toBe(true);
	}
});

test('pieces are one body', async () => {
	const pieces = Array.from({ length: 50 }, (_, index) => `${index} € `.repeat(index * 10));
	const bytes = await compressed(pieces);
	expect(gunzipSync(bytes ?? '').toString()).toBe(pieces.join(''));
	expect(compressed(['o', 'k'])).toBeUndefined();
});

test('who makes a large body waits until it can be packed, in the order of asking', async () => {
	const held = await Promise.all([freePacker(), freePacker(), freePacker(), freePacker()]);
	const came: string[] = [];
	const asked = ['first', 'second'].map(async (name) => {
		using packer = await freePacker();
		came.push(name);
		return await packer.pack(name.repeat(1000));
	});
	const body = compressed('third'.repeat(1000))?.then((bytes) => {
		came.push('third');
		return bytes;
	});
	await yieldTurn(systemClock);
	expect(came).toEqual([]);
	for (const packer of held) packer[Symbol.dispose]();
	const packed = [...(await Promise.all(asked)), await body];
	expect(came.slice(0, 2)).toEqual(['first', 'second']);
	expect(
		packed.map((bytes) =>
			gunzipSync(bytes ?? '')
				.toString()
				.slice(0, 5),
		),
	).toEqual(['first', 'secon', 'third']);
});
