import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import {
	type BreakGlassSignature,
	BreakGlassSignatureSchema,
} from '../../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import type { BreakGlassKeyRow } from '../../store/port/break-glass.ts';
import { judgeSignature } from './signatures.ts';

const CHALLENGE = Buffer.from('gpuaas break-glass v1 test grant 00');
const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest();

function row(publicKey: KeyObject, patch: Partial<BreakGlassKeyRow> = {}): BreakGlassKeyRow {
	const spki = publicKey.export({ format: 'der', type: 'spki' });
	const base = { id: 'k', name: 'safe', kind: 'ed25519', publicKey: spki, rpId: '', signCount: 0 } as const;
	return { ...base, createdAtMs: 1, createdBy: 'op', removedAtMs: null, ...patch };
}

describe('an Ed25519 key', () => {
	const { privateKey, publicKey } = generateKeyPairSync('ed25519');

	test('signs the challenge, and nothing else', () => {
		const over = (message: Uint8Array) =>
			judgeSignature(
				row(publicKey),
				CHALLENGE,
				create(BreakGlassSignatureSchema, { signature: sign(null, message, privateKey) }),
			).ok;
		expect(over(CHALLENGE)).toBe(true);
		expect(over(Buffer.concat([CHALLENGE, Buffer.from(' ')]))).toBe(false);
		expect(over(Buffer.alloc(0))).toBe(false);
	});
});

describe.each(['ed25519', 'p256'] as const)('a FIDO2 key (%s)', (curve) => {
	const { privateKey, publicKey } =
		curve === 'p256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');

	interface Assertion {
		readonly challenge?: string;
		readonly type?: string;
		readonly rpId?: string;
		readonly flags?: number;
		readonly count?: number;
	}

	/** As an authenticator makes it (WebAuthn section 6.3.3). */
	function assertion(of: Assertion = {}) {
		const { challenge = sha256(CHALLENGE).toString('base64url'), type = 'webauthn.get', flags = 5, count = 7 } = of;
		const clientDataJson = Buffer.from(JSON.stringify({ type, challenge, origin: 'https://gpuaas.example' }));
		const counter = Buffer.alloc(4);
		counter.writeUInt32BE(count);
		const authenticatorData = Buffer.concat([sha256(of.rpId ?? 'gpuaas.example'), Buffer.from([flags]), counter]);
		const signed = Buffer.concat([authenticatorData, sha256(clientDataJson)]);
		const signature = sign(curve === 'p256' ? 'sha256' : null, signed, privateKey);
		return create(BreakGlassSignatureSchema, { signature, authenticatorData, clientDataJson });
	}

	const key = row(publicKey, { kind: 'fido2', rpId: 'gpuaas.example', signCount: 6 });
	const why = (of: Assertion) => {
		const judged = judgeSignature(key, CHALLENGE, assertion(of));
		return judged.ok ? judged.signCount : judged.why;
	};

	test('answers the challenge with a person there', () => {
		expect(why({})).toBe(7);
	});

	test('is refused for another challenge, ceremony, party, an absent person, or a counter that stands still', () => {
		expect(why({ challenge: 'other' })).toContain('another challenge');
		expect(why({ type: 'webauthn.create' })).toContain('another challenge');
		expect(why({ rpId: 'evil.example' })).toContain('relying party');
		expect(why({ flags: 1 })).toContain('nobody');
		expect(why({ flags: 4 })).toContain('nobody');
		expect(why({ count: 6 })).toContain('counter');
		expect(why({ count: 0 })).toContain('counter');
	});

	test('is refused when anything that it signed was changed', () => {
		const changed = (change: (given: BreakGlassSignature) => void) => {
			const given = assertion();
			change(given);
			return judgeSignature(key, CHALLENGE, given);
		};
		const wrong = { ok: false, why: 'its signature is wrong' };
		// A counter that is higher than the one that was signed: nothing but the signature tells.
		expect(changed(({ authenticatorData }) => authenticatorData.set([9], 36))).toEqual(wrong);
		const other = (given: BreakGlassSignature) => {
			const said = JSON.parse(Buffer.from(given.clientDataJson).toString()) as object;
			given.clientDataJson = Buffer.from(JSON.stringify({ ...said, origin: 'https://evil.example' }));
		};
		expect(changed(other)).toEqual(wrong);
		expect(changed(({ signature }) => signature.set([(signature.at(-1) ?? 0) ^ 1], signature.length - 1))).toEqual(
			wrong,
		);
		const none = judgeSignature(key, CHALLENGE, create(BreakGlassSignatureSchema, {}));
		expect(none).toMatchObject({ ok: false });
	});
});
