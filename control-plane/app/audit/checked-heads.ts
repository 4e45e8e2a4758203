import { type ChainHead, type ChainHeadResult, verifyChainHead } from '../../../pki/verify/chain-head.ts';
import type { NoteKey } from '../../../pki/verify/signed-note.ts';

/**
 * Verifies heads of one log under one key, each once: a fleet that comes back brings the same few heads thousands of times.
 * Known is a note by all its bytes, and only one whose signature held. Whether it fits the chain is asked anew each time,
 * by the sequencer. Bounded: a full memory is forgotten, which costs signatures.
 */
const KNOWN_MAX = 64;
/** A head with a few signatures: whoever appends lines to it gets each checked, and none remembered. */
const NOTE_CHARACTERS_MAX = 1024;

export class CheckedHeads {
	readonly #origin: string;
	readonly #key: NoteKey;
	readonly #known = new Map<string, ChainHead>();

	constructor(origin: string, key: NoteKey) {
		this.#origin = origin;
		this.#key = key;
	}

	check(note: string): ChainHeadResult {
		const head = this.#known.get(note);
		if (head !== undefined) return { kind: 'ok', head };
		const checked = verifyChainHead(note, this.#origin, [this.#key]);
		if (checked.kind === 'refused') return checked;
		if (note.length > NOTE_CHARACTERS_MAX) return checked;
		if (this.#known.size >= KNOWN_MAX) this.#known.clear();
		this.#known.set(note, checked.head);
		return checked;
	}
}
