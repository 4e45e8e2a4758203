import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ed25519SignerFromSeed } from '../keys/signer.ts';
import {
	CHAIN_START,
	type ChainHead,
	type ChainResult,
	ChainVerifier,
	chainOrigin,
	nextChain,
	type StoredLeaf,
	signChainHead,
	signChainHeadSync,
	verifyChainHead,
} from './chain-head.ts';
import { noteKey, signNoteSync } from './signed-note.ts';

const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(4));
const keys = [noteKey('cluster.test/audit', signer.spki())];
const origin = chainOrigin('cluster.test');

function chainOf(count: number): StoredLeaf[] {
	const leaves: StoredLeaf[] = [];
	let chain = CHAIN_START;
	for (let seq = 1; seq <= count; seq += 1) {
		const leaf = Buffer.from(`{"seq":${seq}}`);
		chain = nextChain(chain, leaf);
		leaves.push({ seq, leaf, chain });
	}
	return leaves;
}

function headAt(leaves: readonly StoredLeaf[], size: number): ChainHead {
	return { origin, size, chain: leaves[size - 1]?.chain ?? CHAIN_START };
}

function check(leaves: Iterable<StoredLeaf>, heads: readonly ChainHead[]): ChainResult {
	const verifier = new ChainVerifier(heads);
	for (const leaf of leaves) {
		const broken = verifier.add(leaf);
		if (broken) return broken;
	}
	return verifier.finish();
}

/** Rebuilds a chain after tampering, as somebody with the database and without the signing key would. */
function rechained(leaves: readonly Uint8Array[]): StoredLeaf[] {
	let chain = CHAIN_START;
	return leaves.map((leaf, index) => {
		chain = nextChain(chain, leaf);
		return { seq: index + 1, leaf, chain };
	});
}

describe('chain', () => {
	it('is SHA-256(1 || previous || SHA-256(0 || leaf))', () => {
		const sha = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
		const leaf = Buffer.from('leaf');
		const expected = sha(Uint8Array.of(1), new Uint8Array(32), sha(Uint8Array.of(0), leaf));
		expect(Buffer.from(nextChain(CHAIN_START, leaf))).toEqual(expected);
	});

	it('verifies to its signed heads', () => {
		const leaves = chainOf(10);
		expect(check(leaves, [headAt(leaves, 0), headAt(leaves, 5), headAt(leaves, 10)])).toMatchObject({
			kind: 'ok',
			size: 10,
		});
		expect(check([], [])).toMatchObject({ kind: 'ok', size: 0 });
	});

	it('finds an altered, dropped, inserted, reordered and cut record', () => {
		const leaves = chainOf(10);
		const heads = [headAt(leaves, 10)];
		const seqOf = (changed: StoredLeaf[]) => {
			const result = check(changed, heads);
			return result.kind === 'broken' ? result.seq : 'ok';
		};
		const with3 = (leaf: Partial<StoredLeaf>) => leaves.map((old) => (old.seq === 3 ? { ...old, ...leaf } : old));
		expect(seqOf(leaves)).toBe('ok');
		expect(seqOf(with3({ leaf: Buffer.from('evil') }))).toBe(3);
		expect(seqOf(with3({ chain: new Uint8Array(32) }))).toBe(3);
		expect(seqOf(leaves.filter(({ seq }) => seq !== 3))).toBe(3);
		expect(seqOf(leaves.slice(1))).toBe(1);
		expect(seqOf(leaves.slice(0, 9))).toBe(10);
		expect(seqOf([])).toBe(1);
	});

	it('finds a history that was rewritten throughout, by its signed head', () => {
		const leaves = chainOf(10);
		const rewritten = leaves.map(({ leaf, seq }) => (seq === 3 ? Buffer.from('evil') : leaf));
		expect(check(rechained(rewritten), [])).toMatchObject({ kind: 'ok' });
		expect(check(rechained(rewritten), [headAt(leaves, 10)])).toMatchObject({ kind: 'broken', seq: 10 });
		const swapped = [...leaves.map(({ leaf }) => leaf)];
		[swapped[3], swapped[4]] = [swapped[4] ?? CHAIN_START, swapped[3] ?? CHAIN_START];
		expect(check(rechained(swapped), [headAt(leaves, 6)])).toMatchObject({ kind: 'broken', seq: 6 });
	});

	it('finds two heads that contradict each other', () => {
		const leaves = chainOf(3);
		const other = { origin, size: 3, chain: new Uint8Array(32).fill(1) };
		expect(check(leaves, [other, headAt(leaves, 3)])).toMatchObject({ message: expect.stringContaining('forked') });
		expect(check([], [{ origin, size: 0, chain: other.chain }])).toMatchObject({ kind: 'broken' });
	});
});

describe('signed head', () => {
	const head = headAt(chainOf(4), 4);

	it('comes back as it went', async () => {
		const note = signChainHeadSync(head, 'cluster.test/audit', signer);
		expect(await signChainHead(head, 'cluster.test/audit', signer)).toBe(note);
		expect(note.split('\n').slice(0, 2)).toEqual(['cluster.test/audit-chain/v1', '4']);
		expect(verifyChainHead(note, origin, keys)).toEqual({ kind: 'ok', head });
	});

	it('is refused when altered, of another log, or no head', () => {
		const note = signChainHeadSync(head, 'cluster.test/audit', signer);
		expect(verifyChainHead(note.replace('\n4\n', '\n3\n'), origin, keys).kind).toBe('refused');
		expect(verifyChainHead(note, chainOrigin('other.test'), keys).kind).toBe('refused');
		expect(verifyChainHead(note, origin, []).kind).toBe('refused');
		const hash = Buffer.alloc(32).toString('base64');
		for (const text of [
			`${origin}\n`,
			`${origin}\n04\n${hash}\n`,
			`${origin}\n4\n${hash}\nmore\n`,
			`${origin}\n4\nAAAA\n`,
			`${origin}\n-1\n${hash}\n`,
		]) {
			expect(verifyChainHead(signNoteSync(text, 'cluster.test/audit', signer), origin, keys).kind, text).toBe(
				'refused',
			);
		}
	});
});
