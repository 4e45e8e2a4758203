import { expect, test } from 'vitest';
import { ed25519SignerFromSeed } from '../../../pki/keys/signer.ts';
import { chainOrigin, signChainHeadSync } from '../../../pki/verify/chain-head.ts';
import type { VerifyKey } from '../../../pki/verify/signature.ts';
import { noteKey } from '../../../pki/verify/signed-note.ts';
import { CheckedHeads } from './checked-heads.ts';

const origin = chainOrigin('cluster.test');
const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(1));
const signed = (size: number, of = signer, log = origin) =>
	signChainHeadSync({ origin: log, size, chain: new Uint8Array(32).fill(size) }, 'cluster.test/audit', of);

function counted() {
	const known = noteKey('cluster.test/audit', signer.spki());
	let verified = 0;
	const verify: VerifyKey['verify'] = (bytes, signature) => {
		verified += 1;
		return known.key.verify(bytes, signature);
	};
	const heads = new CheckedHeads(origin, { ...known, key: { verify } as VerifyKey });
	return { heads, verified: () => verified };
}

test('verifies a head once, and says of it what it said', () => {
	const { heads, verified } = counted();
	const first = heads.check(signed(7));
	expect(first).toMatchObject({ kind: 'ok', head: { origin, size: 7 } });
	expect(heads.check(signed(7))).toEqual(first);
	expect(verified()).toBe(1);
});

test('one that differs in a single character is verified and refused, each time', () => {
	const { heads, verified } = counted();
	const note = signed(7);
	heads.check(note);
	const larger = note.replace('\n7\n', '\n8\n');
	for (let times = 0; times < 2; times += 1) expect(heads.check(larger).kind).toBe('refused');
	expect(verified()).toBe(3);
});

test('of another log or key it is refused as ever', () => {
	const { heads } = counted();
	heads.check(signed(7));
	expect(heads.check(signed(7, signer, chainOrigin('cluster.test', 2))).kind).toBe('refused');
	expect(heads.check(signed(7, ed25519SignerFromSeed(new Uint8Array(32).fill(2)))).kind).toBe('refused');
	expect(heads.check('rubbish').kind).toBe('refused');
});

test('is bounded, and right when it has forgotten', () => {
	const { heads, verified } = counted();
	for (let size = 1; size <= 200; size += 1) expect(heads.check(signed(size)).kind).toBe('ok');
	expect(heads.check(signed(1))).toMatchObject({ kind: 'ok', head: { size: 1 } });
	expect(verified()).toBe(201);
});

test('a head with lines appended to it is verified each time, and not remembered', () => {
	const { heads, verified } = counted();
	const note = `${signed(7)}${'\u2014 other/log AAAAAAAAAAA=\n'.repeat(60)}`;
	for (let times = 0; times < 2; times += 1) expect(heads.check(note).kind).toBe('ok');
	expect(verified()).toBe(2);
});
