import { assert } from '../../kit/assert.ts';
import type { Signer, SyncSigner } from '../keys/signer.ts';
import { sha256 } from './signature.ts';
import { type NoteKey, signNote, signNoteSync, verifyNote } from './signed-note.ts';

/**
 * The audit chain and its signed heads. Leaf hash = SHA-256(0x00 || leaf bytes), as in RFC 6962, so that a
 * transparency log can adopt the leaves unchanged; chain value = SHA-256(0x01 || previous value || leaf hash), from 32
 * zero bytes. A head is a signed note of three lines: origin, size, base64 of the chain value. Altering, reordering,
 * inserting or dropping a leaf changes every later value; a cut tail is found by a head that left the database.
 */
export interface ChainHead {
	/** `chainOrigin`: never a tlog-checkpoint's, whose third line is a Merkle root. */
	readonly origin: string;
	/** How many leaves. */
	readonly size: number;
	/** 32 bytes. */
	readonly chain: Uint8Array;
}

export const CHAIN_START: Uint8Array = new Uint8Array(32);

/** `log` 1 is the first; a later one was begun by an operator after records were lost (docs/adr/0008). */
export function chainOrigin(trustDomain: string, log = 1): string {
	return `${trustDomain}/audit-chain/v1${log === 1 ? '' : `/log-${log}`}`;
}

const ORIGIN = /^([^\n]+)\/audit-chain\/v1(?:\/log-([1-9]\d{0,5}))?$/;

/** The number of the log that the first line of a head names; undefined for what is no audit chain's. */
export function logOfOrigin(origin: string): number | undefined {
	const found = ORIGIN.exec(origin);
	return found === null ? undefined : Number(found[2] ?? 1);
}

/** Whether `origin` is a log of the same trust domain that was begun after that of `former`. */
export function isLaterLog(origin: string, former: string): boolean {
	const [, domain, log = 1] = ORIGIN.exec(origin) ?? [];
	const [, formerDomain, formerLog = 1] = ORIGIN.exec(former) ?? [];
	return domain !== undefined && domain === formerDomain && Number(log) > Number(formerLog);
}

export function leafHash(leaf: Uint8Array): Uint8Array {
	return sha256(Uint8Array.of(0), leaf);
}

/** The chain value after `leaf`. */
export function nextChain(previous: Uint8Array, leaf: Uint8Array): Uint8Array {
	assert(previous.length === 32, 'a chain value has 32 bytes');
	return sha256(Uint8Array.of(1), previous, leafHash(leaf));
}

function headText({ origin, size, chain }: ChainHead): string {
	assert(chain.length === 32 && Number.isSafeInteger(size) && size >= 0, 'a head has a size and 32 bytes');
	return `${origin}\n${size}\n${Buffer.from(chain).toString('base64')}\n`;
}

export function signChainHead(head: ChainHead, keyName: string, signer: Signer): Promise<string> {
	return signNote(headText(head), keyName, signer);
}

export function signChainHeadSync(head: ChainHead, keyName: string, signer: SyncSigner): string {
	return signNoteSync(headText(head), keyName, signer);
}

export type ChainHeadResult =
	| { readonly kind: 'ok'; readonly head: ChainHead }
	| { readonly kind: 'refused'; readonly message: string };

export function verifyChainHead(note: string, origin: string, keys: readonly NoteKey[]): ChainHeadResult {
	const verified = verifyNote(note, keys);
	if (verified.kind === 'refused') return verified;
	const [found, sizeText = '', encoded = '', end, ...rest] = verified.text.split('\n');
	const size = Number(sizeText);
	const chain = Buffer.from(encoded, 'base64');
	const wellFormed = /^(0|[1-9]\d{0,15})$/.test(sizeText) && Number.isSafeInteger(size) && chain.length === 32;
	if (!wellFormed || chain.toString('base64') !== encoded || end !== '' || rest.length > 0) {
		return { kind: 'refused', message: 'the note is signed and is no audit head' };
	}
	if (found !== origin) return { kind: 'refused', message: `the head is of another log than ${origin}` };
	return { kind: 'ok', head: { origin, size, chain: new Uint8Array(chain) } };
}

/** What a note says, unverified: for comparing heads with each other and with a chain. Undefined for anything else. */
export function chainPointOf(note: string): ChainHead | undefined {
	const [origin, sizeText = '', encoded = ''] = note.split('\n', 3);
	const chain = Buffer.from(encoded, 'base64');
	if (origin === undefined || !/^[1-9]\d{0,15}$/.test(sizeText) || chain.length !== 32) return undefined;
	return { origin, size: Number(sizeText), chain: new Uint8Array(chain) };
}

export interface ChainBroken {
	readonly kind: 'broken';
	/** The first position (from 1) that can't be right. */
	readonly seq: number;
	readonly message: string;
}

export type ChainResult = { readonly kind: 'ok'; readonly size: number; readonly chain: Uint8Array } | ChainBroken;

export interface StoredLeaf {
	/** From 1, without gaps. */
	readonly seq: number;
	readonly leaf: Uint8Array;
	/** The stored chain value after this leaf. */
	readonly chain: Uint8Array;
}

/**
 * Recomputes a chain from its start and compares it with what was stored and with signed heads, in one pass and in
 * constant memory beside the heads: `add` every leaf in order, stop at the first `broken`, then `finish`.
 */
export class ChainVerifier {
	readonly #signed = new Map<number, Uint8Array>();
	#forkedAt: number | undefined;
	#largestHead = 0;
	#size = 0;
	#chain = CHAIN_START;

	constructor(heads: Iterable<ChainHead>) {
		this.#signed.set(0, CHAIN_START);
		for (const { size, chain } of heads) {
			const other = this.#signed.get(size);
			if (other && !Buffer.from(other).equals(chain)) this.#forkedAt ??= size;
			this.#signed.set(size, chain);
			this.#largestHead = Math.max(this.#largestHead, size);
		}
	}

	/** Undefined while all is well. */
	add(stored: StoredLeaf): ChainBroken | undefined {
		const seq = this.#size + 1;
		if (stored.seq !== seq) return broken(seq, `record ${seq} is missing: number ${stored.seq} is in its place`);
		this.#chain = nextChain(this.#chain, stored.leaf);
		this.#size = seq;
		if (!Buffer.from(this.#chain).equals(stored.chain)) {
			return broken(seq, `record ${seq} was altered, reordered or inserted`);
		}
		const signed = this.#signed.get(seq);
		if (signed === undefined || Buffer.from(signed).equals(this.#chain)) return undefined;
		return broken(seq, `the chain up to record ${seq} is not the one that was signed`);
	}

	finish(): ChainResult {
		if (this.#forkedAt !== undefined) {
			return broken(this.#forkedAt, `two signed heads of size ${this.#forkedAt} differ: the log was forked`);
		}
		if (this.#largestHead <= this.#size) return { kind: 'ok', size: this.#size, chain: this.#chain };
		const message = `the log ends at record ${this.#size} and a signed head says ${this.#largestHead}: its tail was cut off`;
		return broken(this.#size + 1, message);
	}
}

function broken(seq: number, message: string): ChainBroken {
	return { kind: 'broken', seq, message };
}
