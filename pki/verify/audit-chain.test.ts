import { expect, test } from 'vitest';
import { ed25519SignerFromSeed } from '../keys/signer.ts';
import { type AuditChainResult, verifyAuditChain } from './audit-chain.ts';
import { CHAIN_START, chainOrigin, nextChain, type StoredLeaf, signChainHeadSync } from './chain-head.ts';
import { noteKey, signNoteSync } from './signed-note.ts';

const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(4));
const keyName = 'cluster.test/audit';
const key = noteKey(keyName, signer.spki());
const origin = chainOrigin('cluster.test');

/** The chain as whoever has the database would build it over these leaves. */
function chained(leaves: readonly string[]): StoredLeaf[] {
	let chain = CHAIN_START;
	return leaves.map((text, index) => {
		const leaf = Buffer.from(text);
		chain = nextChain(chain, leaf);
		return { seq: index + 1, leaf, chain };
	});
}

const original = chained(Array.from({ length: 20 }, (_, index) => `leaf ${index + 1}`));

function headOf(rows: readonly StoredLeaf[], size: number): string {
	return signChainHeadSync({ origin, size, chain: rows[size - 1]?.chain ?? CHAIN_START }, keyName, signer);
}

const heads = [headOf(original, 5), headOf(original, 10), headOf(original, 18)];

async function verify(rows: readonly StoredLeaf[], notes: readonly string[] = heads): Promise<AuditChainResult> {
	return await verifyAuditChain(
		(async function* () {
			yield* rows;
		})(),
		notes,
		key,
	);
}

test('an untouched log is verified to its newest head', async () => {
	expect(await verify(original)).toEqual({ kind: 'verified', headSize: 18, size: 20 });
	expect(await verify(original, heads.toReversed())).toEqual({ kind: 'verified', headSize: 18, size: 20 });
});

test('any altered, missing, inserted or reordered record is found where it is', async () => {
	for (let at = 1; at <= 20; at += 1) {
		const altered = original.map((row) => (row.seq === at ? { ...row, leaf: Buffer.from('other') } : row));
		expect(await verify(altered)).toMatchObject({ kind: 'tampered', at });
		const forgedChain = original.map((row) => (row.seq === at ? { ...row, chain: new Uint8Array(32) } : row));
		expect(await verify(forgedChain)).toMatchObject({ kind: 'tampered', at });
		if (at < 20) {
			const missing = { kind: 'tampered', at, what: expect.stringContaining(`record ${at} is missing`) };
			expect(await verify(original.filter(({ seq }) => seq !== at))).toMatchObject(missing);
			const swapped = original.toSpliced(
				at - 1,
				2,
				{ ...original[at], seq: at } as StoredLeaf,
				original[at - 1] as StoredLeaf,
			);
			expect(await verify(swapped)).toMatchObject({ kind: 'tampered', at });
		}
	}
});

test('a log that was built again after a change is found at the next head', async () => {
	for (let at = 1; at <= 18; at += 1) {
		const texts = original.map(({ leaf }) => Buffer.from(leaf).toString());
		const changed = [texts.with(at - 1, 'other'), texts.toSpliced(at - 1, 1), texts.toSpliced(at - 1, 0, 'inserted')];
		for (const leaves of changed) {
			const result = await verify(chained(leaves));
			expect(result.kind).toBe('tampered');
			// No later than the first head that covers the change.
			expect(result).toMatchObject({ at: [5, 10, 18].find((size) => size >= at) });
		}
	}
});

test('a tail that was cut off is found below the newest head', async () => {
	for (let length = 0; length < 18; length += 1) {
		expect(await verify(original.slice(0, length))).toMatchObject({ kind: 'tampered', at: length + 1 });
	}
	for (const length of [18, 19]) expect((await verify(original.slice(0, length))).kind).toBe('verified');
});

test('two heads of one size that differ are a fork', async () => {
	const forked = chained(Array.from({ length: 18 }, (_, index) => `other ${index}`));
	expect(await verify(original, [...heads, headOf(forked, 18)])).toMatchObject({ kind: 'tampered', at: 18 });
	// Whichever of them the log continues: that the other was signed is the finding.
	const found = { kind: 'tampered', at: 18, what: expect.stringContaining('forked') };
	expect(await verify(original, [headOf(forked, 18), ...heads])).toMatchObject(found);
});

test('without a head that holds nothing is verified', async () => {
	expect(await verify(original, [])).toMatchObject({ kind: 'inconclusive', at: 0 });
	const stranger = ed25519SignerFromSeed(new Uint8Array(32).fill(5));
	const theirs = signChainHeadSync({ origin, size: 20, chain: original[19]?.chain ?? CHAIN_START }, keyName, stranger);
	expect(await verify(original, [theirs])).toMatchObject({ kind: 'inconclusive' });
	expect(await verify(original, [...heads, theirs])).toMatchObject({ kind: 'inconclusive' });
	const altered = heads[0]?.replace('\n5\n', '\n6\n') ?? '';
	expect(await verify(original, [altered])).toMatchObject({ kind: 'inconclusive' });
	const checkpoint = signNoteSync(`cluster.test/log\n20\n${Buffer.alloc(32).toString('base64')}\n`, keyName, signer);
	expect(await verify(original, [checkpoint])).toMatchObject({ kind: 'inconclusive' });
	expect(await verify(original, ['nonsense'])).toMatchObject({ kind: 'inconclusive' });
});
