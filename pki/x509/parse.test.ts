import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { issueTestLeaf, makeTestPki, TEST_NODE, TEST_REPLICA, type TestPki } from '../ca/test-pki.ts';
import { generateSigner } from '../keys/signer.ts';
import { DerError, DerReader, der, integerHex, oidText, TAG, timeMs } from './der.ts';
import { parseCertificate } from './parse.ts';
import { certificatePem, certificatesOfPem } from './pem.ts';

let pki: TestPki;
beforeAll(async () => {
	pki = await makeTestPki();
});

function parsed(raw: Uint8Array) {
	const result = parseCertificate(raw);
	if (result.kind === 'malformed') throw new Error(result.detail);
	return result.certificate;
}

describe('parseCertificate', () => {
	it('reads what OpenSSL reads', async () => {
		const replica = await issueTestLeaf(pki, TEST_REPLICA);
		const node = await issueTestLeaf(pki, TEST_NODE);
		for (const raw of [pki.root.certificateDer, pki.node.certificateDer, replica.certificateDer, node.certificateDer]) {
			const ours = parsed(raw);
			const theirs = new X509Certificate(raw);
			expect(ours.serialHex).toBe(theirs.serialNumber.toLowerCase());
			expect(Buffer.from(ours.spki)).toEqual(theirs.publicKey.export({ format: 'der', type: 'spki' }));
			expect(ours.isCa).toBe(theirs.ca);
			expect(ours.notBeforeMs).toBe(Date.parse(theirs.validFrom));
			expect(ours.notAfterMs).toBe(Date.parse(theirs.validTo));
			expect(ours.ekus).toEqual(theirs.keyUsage ?? []);
			const names = [...ours.uriSans.map((uri) => `URI:${uri}`), ...ours.dnsSans.map((dns) => `DNS:${dns}`)];
			for (const name of names) expect(theirs.subjectAltName?.split(', ')).toContain(name);
			expect(ours.sanCount).toBe(theirs.subjectAltName?.split(', ').length ?? 0);
		}
	});

	it('reads times on both sides of 2050', async () => {
		const far = await makeTestPki('cluster.test', Date.UTC(2049, 0, 1));
		expect(parsed(far.root.certificateDer).notAfterMs).toBe(far.root.notAfterMs);
		expect(new Date(far.root.notAfterMs).getUTCFullYear()).toBeGreaterThan(2050);
	});

	it('never throws and never reads past a change, whatever byte is changed', async () => {
		const { certificateDer } = await issueTestLeaf(pki, TEST_NODE);
		const positions = fc.integer({ min: 0, max: certificateDer.length - 1 });
		fc.assert(
			fc.property(positions, fc.integer({ min: 1, max: 255 }), (position, mask) => {
				const changed = certificateDer.slice();
				changed[position] = (changed[position] ?? 0) ^ mask;
				expect(['ok', 'malformed']).toContain(parseCertificate(changed).kind);
			}),
			{ numRuns: 2000, seed: 1 },
		);
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => parseCertificate(bytes).kind === 'malformed'),
			{ numRuns: 500, seed: 1 },
		);
	});

	it('refuses cut, extended and oversized input', async () => {
		const { certificateDer } = await issueTestLeaf(pki, TEST_NODE);
		for (let length = 0; length < certificateDer.length; length += 7) {
			expect(parseCertificate(certificateDer.subarray(0, length)).kind).toBe('malformed');
		}
		expect(parseCertificate(Buffer.concat([certificateDer, Uint8Array.of(0)])).kind).toBe('malformed');
		expect(parseCertificate(new Uint8Array(20_000))).toMatchObject({ detail: expect.stringContaining('longer') });
	});

	it('refuses a name with a NUL byte in it', async () => {
		const { certificateDer } = await issueTestLeaf(pki, { kind: 'node', id: 'abc' });
		const changed = Buffer.from(certificateDer);
		changed[changed.indexOf('/node/abc') + 7] = 0;
		expect(parseCertificate(changed)).toMatchObject({ kind: 'malformed', detail: expect.stringContaining('ASCII') });
	});

	it('refuses an extension that appears twice', async () => {
		const { certificateDer } = await issueTestLeaf(pki, TEST_NODE);
		const changed = Buffer.from(certificateDer);
		// Turns the subject key identifier (2.5.29.14) into a second authority key identifier (2.5.29.35).
		changed[changed.indexOf(Buffer.from('0603551d0e', 'hex')) + 4] = 0x23;
		expect(parseCertificate(changed)).toMatchObject({ kind: 'malformed', detail: expect.stringContaining('twice') });
	});
});

describe('DER', () => {
	const reader = (text: string) => new DerReader(Buffer.from(text, 'hex'));

	it('refuses lengths that are indefinite, not minimal, or beyond the input', () => {
		for (const text of ['3080', '308100', '30817f', '30820080', '3002', '3084000000', '1f0100', '30']) {
			expect(() => reader(text).next(), text).toThrow(DerError);
		}
		expect(reader(`3081${'80'}${'00'.repeat(128)}`).next().content.length).toBe(128);
	});

	it('writes what it reads, at every size of length', () => {
		for (const size of [0, 127, 128, 255, 256, 65_535, 65_536]) {
			const content = new Uint8Array(size).fill(5);
			expect(new DerReader(der(TAG.octetString, content)).next(TAG.octetString).content).toEqual(content);
		}
	});

	it('reads OIDs with UUID arcs and refuses torn ones', () => {
		expect(oidText(Buffer.from('6982c1b8ff8e8ba5b5c4e5e9eebdaddcfaec8f0b', 'hex'))).toMatch(/^2\.25\.\d{20,}$/);
		expect(oidText(Buffer.from('2a8648ce3d040302', 'hex'))).toBe('1.2.840.10045.4.3.2');
		for (const text of ['', '2a86', '2a8001']) expect(() => oidText(Buffer.from(text, 'hex'))).toThrow(DerError);
	});

	it('refuses negative and padded integers', () => {
		expect(integerHex(Uint8Array.of(0, 0x80))).toBe('80');
		expect(integerHex(Uint8Array.of(0))).toBe('00');
		for (const content of [[], [0x80], [0, 1]]) expect(() => integerHex(Uint8Array.from(content))).toThrow(DerError);
	});

	it('refuses days that no month has', () => {
		const time = (text: string) => new DerReader(der(TAG.utcTime, Buffer.from(text))).next();
		expect(timeMs(time('300228000000Z'))).toBe(Date.UTC(2030, 1, 28));
		for (const text of [
			'300230000000Z',
			'301301000000Z',
			'300001000000Z',
			'300101240000Z',
			'3001010000Z',
			'300101000000+0000',
		]) {
			expect(() => timeMs(time(text)), text).toThrow(DerError);
		}
	});
});

describe('PEM', () => {
	it('goes there and back, several at once', () => {
		const text = certificatePem(pki.root.certificateDer) + certificatePem(pki.node.certificateDer);
		expect(certificatesOfPem(text)).toEqual([pki.root.certificateDer, pki.node.certificateDer]);
		expect(new X509Certificate(text).ca).toBe(true);
	});

	it('refuses text without a certificate, a private key above all', () => {
		const pem = generateSigner('ed25519').exportPkcs8Pem();
		expect(() => certificatesOfPem(pem)).toThrow(expect.objectContaining({ reason: 'CERTIFICATE_MALFORMED' }));
	});
});
