import { hkdfSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { enrollHelloTranscript, enrollProofDigest, signTranscript, verifyTranscript } from './enroll-transcript.ts';
import { encodeJoinToken, type JoinToken, joinTokenPublicKey, joinTokenSigner, parseJoinToken } from './join-token.ts';
import { ed25519SignerFromSeed, generateSigner } from './signer.ts';

const PROOF_VECTOR = '3be34bec7ed20c48fa8e5ea115a3f5bd3c710edc64611525e60939d8fb0cff7d';

const token: JoinToken = {
	id: '0190d7a0-0000-7000-8000-000000000001',
	secret: systemRng.bytes(32),
	caPins: ['a'.repeat(64), 'b'.repeat(64)],
	trustDomain: 'cluster.test',
	expiresAtMs: Date.UTC(2030, 0, 1),
};

describe('join token', () => {
	it('comes back as it went, whatever is in it', () => {
		const pin = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
		const tokens = fc.record({
			id: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
			secret: fc.uint8Array({ minLength: 32, maxLength: 32 }),
			caPins: fc.array(pin, { minLength: 1, maxLength: 4 }),
			trustDomain: fc.stringMatching(/^[a-z0-9]{1,20}(\.[a-z0-9]{1,20}){0,3}$/),
			expiresAtMs: fc.integer({ min: 0, max: 0xffff_ffff }).map((seconds) => seconds * 1000),
		});
		fc.assert(
			fc.property(tokens, (value) => {
				expect(parseJoinToken(encodeJoinToken(value))).toEqual({ kind: 'ok', token: value });
			}),
			{ seed: 1 },
		);
	});

	it('is one word that a scanner finds, with white space around it ignored', () => {
		const text = encodeJoinToken(token);
		expect(text).toMatch(/^gpu_jt_[A-Za-z0-9_-]+$/);
		expect(parseJoinToken(`  ${text}\n`).kind).toBe('ok');
	});

	it('notices every mistyped, dropped and added character', () => {
		const text = encodeJoinToken(token);
		for (let index = 0; index < text.length; index += 1) {
			const other = text[index] === 'A' ? 'B' : 'A';
			expect(parseJoinToken(text.slice(0, index) + other + text.slice(index + 1)).kind, `${index}`).toBe('refused');
			expect(parseJoinToken(text.slice(0, index) + text.slice(index + 1)).kind, `${index}`).toBe('refused');
			expect(parseJoinToken(text.slice(0, index)).kind, `${index}`).toBe('refused');
		}
		for (const extra of ['A', '=', ' x', '\u0000']) expect(parseJoinToken(text + extra).kind).toBe('refused');
	});

	it('says what is wrong without repeating the secret', () => {
		const text = encodeJoinToken(token);
		const messageOf = (input: string) => {
			const result = parseJoinToken(input);
			return result.kind === 'refused' ? result.message : 'ok';
		};
		expect(messageOf('hello')).toContain("doesn't start with gpu_jt_");
		expect(messageOf(text.slice(0, -8))).toContain('checksum');
		expect(messageOf('gpu_jt_')).toContain('cut short');
		expect(messageOf(`gpu_jt_${'A'.repeat(2000)}`)).toContain('longer');
		for (const bad of [text.slice(0, -8), `${text}!`, `x${text}`]) {
			expect(messageOf(bad)).not.toContain(text.slice(30, 40));
		}
	});

	it('asserts what a caller must get right', () => {
		expect(() => encodeJoinToken({ ...token, secret: new Uint8Array(15) })).toThrow('32 bytes');
		expect(() => encodeJoinToken({ ...token, caPins: [] })).toThrow('pins');
		expect(() => encodeJoinToken({ ...token, caPins: Array(5).fill('a'.repeat(64)) })).toThrow('pins');
		expect(() => encodeJoinToken({ ...token, trustDomain: 'A/b' })).toThrow('trust domain');
		expect(() => encodeJoinToken({ ...token, id: '' })).toThrow('token id');
	});
});

describe('join key', () => {
	it('is HKDF-SHA256 of the secret and nothing else', () => {
		const seed = hkdfSync('sha256', token.secret, '', 'gpuaas-join-token-ed25519-v1', 32);
		expect(joinTokenPublicKey(token.secret)).toEqual(ed25519SignerFromSeed(new Uint8Array(seed)).spki());
		expect(Buffer.from(joinTokenPublicKey(token.secret)).includes(Buffer.from(token.secret))).toBe(false);
	});

	it('signs a hello that only fits its channel, token and request', async () => {
		const hello = { exporter: new Uint8Array(32).fill(1), tokenId: token.id, csrDer: Buffer.from('csr') };
		const signature = await signTranscript(joinTokenSigner(token.secret), enrollHelloTranscript(hello));
		const verify = (changed: Partial<typeof hello>, spki = joinTokenPublicKey(token.secret)) =>
			verifyTranscript(spki, enrollHelloTranscript({ ...hello, ...changed }), signature);
		expect(verify({})).toBe(true);
		expect(verify({ exporter: new Uint8Array(32).fill(2) })).toBe(false);
		expect(verify({ tokenId: 'other' })).toBe(false);
		expect(verify({ csrDer: Buffer.from('csR') })).toBe(false);
		expect(verify({}, generateSigner('ed25519').spki())).toBe(false);
		expect(verify({}, Buffer.from('no key'))).toBe(false);
	});
});

describe('transcripts', () => {
	const exporter = new Uint8Array(32);

	it('have different bytes for different parts, also when the concatenation is the same', () => {
		const one = enrollHelloTranscript({ exporter, tokenId: 'ab', csrDer: Buffer.from('c') });
		const two = enrollHelloTranscript({ exporter, tokenId: 'a', csrDer: Buffer.from('bc') });
		expect(one).not.toEqual(two);
	});

	it('prove a key by the digest of the design, over parts of fixed length', () => {
		const parts = { nonce: new Uint8Array(32).fill(1), exporter, spkiSha256: new Uint8Array(32).fill(2) };
		const digest = enrollProofDigest(parts);
		// printf 'gpuaas-enroll-v1' + 32 x 01 + 32 x 00 + 32 x 02 | sha256sum
		expect(Buffer.from(digest).toString('hex')).toBe(PROOF_VECTOR);
		for (const key of ['nonce', 'exporter', 'spkiSha256'] as const) {
			expect(() => enrollProofDigest({ ...parts, [key]: new Uint8Array(31) })).toThrow('32 bytes');
			expect(enrollProofDigest({ ...parts, [key]: new Uint8Array(32).fill(9) })).not.toEqual(digest);
		}
		expect(() => enrollHelloTranscript({ exporter: new Uint8Array(0), tokenId: 'a', csrDer: exporter })).toThrow('32');
	});
});
