import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { present } from '../../../kit/assert.ts';
import { systemRng } from '../../../kit/ids.ts';
import { redactText } from '../../../kit/redact.ts';
import { macOf, mintApiKey, parseApiKey, sameMac } from './api-key.ts';
import { mintPeppers, parsePeppers } from './pepper.ts';

test('a key is read back as it was made', () => {
	for (const kind of ['uk', 'sk'] as const) {
		const { key, text } = mintApiKey(kind, 'prod', systemRng);
		expect(text).toMatch(/^gpu_(uk|sk)_prod_[0-9a-z]{12}_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}$/);
		expect(parseApiKey(text)).toEqual(key);
	}
});

test('no character of a key can be changed, left out or added unnoticed', () => {
	const { text } = mintApiKey('uk', 'dev', systemRng);
	fc.assert(
		fc.property(fc.nat(text.length - 1), fc.constantFrom('a', 'Z', '0', '_', '-', ' ', ''), (at, character) => {
			const changed = text.slice(0, at) + character + text.slice(at + 1);
			if (changed !== text) expect(parseApiKey(changed)).toBeUndefined();
			expect(parseApiKey(`${text.slice(0, at)}x${text.slice(at)}`)).toBeUndefined();
		}),
	);
});

test('the log hides a key wherever it stands', () => {
	const { text } = mintApiKey('sk', 'dev', systemRng);
	expect(redactText(`curl -H 'Authorization: ${text}'`)).not.toContain(text.slice(20, 50));
});

test('a verifier fits its own key and pepper only', () => {
	const mine = mintApiKey('uk', 'dev', systemRng).key;
	const other = mintApiKey('uk', 'dev', systemRng).key;
	const ring = parsePeppers(`${mintPeppers(systemRng)}${mintPeppers(systemRng).replace('1 ', '2 ')}`);
	const [first, second] = [present(ring.of(1), 'version 1'), present(ring.of(2), 'version 2')];
	expect(ring.currentVersion).toBe(2);
	expect(sameMac(macOf(mine, first), macOf(mine, first))).toBe(true);
	expect(sameMac(macOf(mine, first), macOf(mine, second))).toBe(false);
	expect(sameMac(macOf(mine, first), macOf(other, first))).toBe(false);
	expect(sameMac(macOf(mine, first), new Uint8Array(0))).toBe(false);
});

test('a verifier is the HMAC-SHA256 of the key under the bytes of the file, so that stored ones go on fitting', () => {
	const pepper = Buffer.alloc(32, 7);
	const { key } = mintApiKey('uk', 'dev', systemRng);
	const { current } = parsePeppers(`1 ${pepper.toString('base64url')}`);
	expect(macOf(key, current)).toEqual(createHmac('sha256', pepper).update(key.body).digest());
});

test.each(['', 'nonsense', '0 AAAA', '1 short', `1 ${'A'.repeat(43)}\n1 ${'B'.repeat(43)}`])(
	'a pepper file that is %j is refused without being shown',
	(text) => {
		expect(() => parsePeppers(text)).toThrow('pepper file');
		try {
			parsePeppers(text);
		} catch (error) {
			expect(String(error)).not.toContain('AAAA');
		}
	},
);
