import { describe, expect, it } from 'vitest';
import { type JoinState, signJoinState, verifyJoinState } from './join-state.ts';
import { ed25519SignerFromSeed, generateSigner } from './signer.ts';

const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(3));
const keys = [generateSigner('ed25519').spki(), signer.spki()];
const state: JoinState = {
	nodeId: '0190d7a0-0000-7000-8000-000000000001',
	renewalSeq: 7,
	spkiSha256Hex: 'c'.repeat(64),
	generation: 2,
	issuedAtMs: 1_900_000_000_000,
};

/** A JWS by the right key over whatever is given: what a confused signer would make. */
function jwsOf(header: object, payload: unknown): string {
	const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
	const signed = `${encode(header)}.${encode(payload)}`;
	return `${signed}.${Buffer.from(signer.signSync(Buffer.from(signed))).toString('base64url')}`;
}

const HEADER = { alg: 'EdDSA', kid: signer.keyId, typ: 'gpuaas-join-state+jwt' };
const PAYLOAD = { generation: 2, iat: 1, node_id: 'n', renewal_seq: 1, spki: 'c'.repeat(64) };

describe('join state', () => {
	it('comes back as it went', async () => {
		const jws = await signJoinState(state, signer);
		expect(jws.length).toBeLessThan(4096);
		expect(verifyJoinState(jws, keys)).toEqual({ kind: 'ok', state });
	});

	it('is three base64url segments whose payload has the documented names', async () => {
		const [head = '', body = ''] = (await signJoinState(state, signer)).split('.');
		const json = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString());
		expect(json(head)).toEqual(HEADER);
		expect(json(body)).toEqual({
			generation: 2,
			iat: 1_900_000_000,
			node_id: state.nodeId,
			renewal_seq: 7,
			spki: state.spkiSha256Hex,
		});
	});

	it('is refused with any character changed, cut or added', async () => {
		const jws = await signJoinState(state, signer);
		for (let index = 0; index < jws.length; index += 1) {
			const other = jws[index] === 'A' ? 'B' : 'A';
			expect(verifyJoinState(jws.slice(0, index) + other + jws.slice(index + 1), keys).kind, `${index}`).toBe(
				'refused',
			);
		}
		for (const bad of ['', '..', jws.slice(0, -1), `${jws}.`, `${jws}=`, 'x'.repeat(5000)]) {
			expect(verifyJoinState(bad, keys)).toMatchObject({ kind: 'refused', reason: 'JOIN_STATE_INVALID' });
		}
	});

	it('is refused when its key is not accepted', async () => {
		const jws = await signJoinState(state, signer);
		expect(verifyJoinState(jws, [generateSigner('ed25519').spki()]).kind).toBe('refused');
		expect(verifyJoinState(jws, []).kind).toBe('refused');
	});

	it('is refused under another algorithm or type, though the signature holds', () => {
		expect(verifyJoinState(jwsOf(HEADER, PAYLOAD), keys).kind).toBe('ok');
		for (const change of [{ alg: 'none' }, { alg: 'HS256' }, { typ: 'JWT' }, { kid: 'x' }, { crit: ['exp'] }]) {
			expect(verifyJoinState(jwsOf({ ...HEADER, ...change }, PAYLOAD), keys).kind, JSON.stringify(change)).toBe(
				'refused',
			);
		}
	});

	it('is refused with fields that no join state has, though the signature holds', () => {
		const bad = [{ node_id: '' }, { node_id: 1 }, { renewal_seq: 0 }, { renewal_seq: 1.5 }, { spki: 'C' }, { iat: -1 }];
		for (const change of bad) {
			expect(verifyJoinState(jwsOf(HEADER, { ...PAYLOAD, ...change }), keys).kind, JSON.stringify(change)).toBe(
				'refused',
			);
		}
		expect(verifyJoinState(jwsOf(HEADER, null), keys).kind).toBe('refused');
		expect(verifyJoinState(jwsOf(HEADER, []), keys).kind).toBe('refused');
	});

	it('is signed with EdDSA only', async () => {
		await expect(signJoinState(state, generateSigner('ecdsa-p256-sha256'))).rejects.toThrow('EdDSA');
	});
});
