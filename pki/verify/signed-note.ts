import { assert } from '../../kit/assert.ts';
import type { Signer, SyncSigner } from '../keys/signer.ts';
import { sha256, VerifyKey } from './signature.ts';

/**
 * C2SP signed-note v1 with Ed25519 (type 0x01): what audit heads are written in, so that tools that we didn't write
 * (Go's sumdb/note, Tessera, witnesses) can check them. A note is text, a blank line, and signature lines
 * `— <key name> base64(key id || signature)`.
 */
const ED25519_TYPE = 0x01;
/** SPKI header of an Ed25519 key (RFC 8410); the 32 key bytes follow. */
const ED25519_SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const NOTE_BYTES_MAX = 64 * 1024;
/** The specification asks for at least 16. */
const SIGNATURES_MAX = 64;
const KEY_NAME = /^[^\s+\p{Z}\p{Cc}]+$/u;
function hasControlCharacter(text: string): boolean {
	for (let index = 0; index < text.length; index += 1) {
		const code = text.charCodeAt(index);
		if (code < 0x20 && code !== 0x0a) return true;
	}
	return false;
}

/** A named verification key, `name+hex key id+base64(type || key)` in text. */
export interface NoteKey {
	readonly name: string;
	/** 4 bytes, hex. */
	readonly idHex: string;
	readonly key: VerifyKey;
}

export function noteKey(name: string, spki: Uint8Array): NoteKey {
	const key = VerifyKey.parse(spki);
	assert(KEY_NAME.test(name), 'a note key name has no white space and no plus sign');
	assert(key?.algorithm === 'ed25519', 'audit heads are signed with Ed25519');
	const raw = spki.subarray(ED25519_SPKI_PREFIX.length);
	const id = sha256(Buffer.from(`${name}\n`, 'utf8'), Uint8Array.of(ED25519_TYPE), raw).subarray(0, 4);
	return { name, idHex: Buffer.from(id).toString('hex'), key };
}

/** The verifier key text that people hand to other tools. */
export function noteKeyText({ name, idHex, key }: NoteKey): string {
	const typed = Buffer.concat([Uint8Array.of(ED25519_TYPE), key.spki().subarray(ED25519_SPKI_PREFIX.length)]);
	return `${name}+${idHex}+${typed.toString('base64')}`;
}

/** Undefined for anything but an Ed25519 verifier key whose id fits its name and key. */
export function parseNoteKey(text: string): NoteKey | undefined {
	const [, name, idHex, encoded] = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)$/.exec(text) ?? [];
	if (name === undefined || encoded === undefined || !KEY_NAME.test(name)) return undefined;
	const typed = Buffer.from(encoded, 'base64');
	if (typed.toString('base64') !== encoded || typed.length !== 33 || typed[0] !== ED25519_TYPE) return undefined;
	const spki = new Uint8Array(Buffer.concat([ED25519_SPKI_PREFIX, typed.subarray(1)]));
	if (VerifyKey.parse(spki) === undefined) return undefined;
	const key = noteKey(name, spki);
	return key.idHex === idHex ? key : undefined;
}

/** `text` must end in a newline. */
export async function signNote(text: string, name: string, signer: Signer): Promise<string> {
	return noted(text, name, signer, await signer.sign(Buffer.from(checkedText(text), 'utf8')));
}

export function signNoteSync(text: string, name: string, signer: SyncSigner): string {
	return noted(text, name, signer, signer.signSync(Buffer.from(checkedText(text), 'utf8')));
}

function checkedText(text: string): string {
	assert(text.endsWith('\n'), 'the text of a note ends in a newline');
	assert(!hasControlCharacter(text) && text.isWellFormed(), 'the text of a note has no control characters');
	return text;
}

function noted(text: string, name: string, signer: Signer, signature: Uint8Array): string {
	const { idHex } = noteKey(name, signer.spki());
	const blob = Buffer.concat([Buffer.from(idHex, 'hex'), signature]);
	return `${text}\n— ${name} ${blob.toString('base64')}\n`;
}

export type NoteResult =
	| {
			readonly kind: 'ok';
			readonly text: string;
			/** Names of the known keys that signed. */
			readonly signedBy: readonly string[];
	  }
	| { readonly kind: 'refused'; readonly message: string };

/** Signatures of unknown keys are ignored; one by a known key that doesn't hold refuses the whole note. */
export function verifyNote(note: string, keys: readonly NoteKey[]): NoteResult {
	const split = note.lastIndexOf('\n\n');
	if (note.length > NOTE_BYTES_MAX) return { kind: 'refused', message: `the note is longer than ${NOTE_BYTES_MAX}` };
	if (split < 0 || !note.endsWith('\n') || hasControlCharacter(note) || !note.isWellFormed()) {
		return { kind: 'refused', message: 'the text is no signed note' };
	}
	const text = note.slice(0, split + 1);
	const lines = note.slice(split + 2, -1).split('\n');
	if (lines.length > SIGNATURES_MAX) return { kind: 'refused', message: 'the note has too many signatures' };
	const signedBy = new Set<string>();
	for (const line of lines) {
		const [, name, encoded] = /^— (\S+) (\S+)$/u.exec(line) ?? [];
		const blob = Buffer.from(encoded ?? '', 'base64');
		if (name === undefined || !KEY_NAME.test(name) || blob.length < 5 || blob.toString('base64') !== encoded) {
			return { kind: 'refused', message: 'the note has a malformed signature line' };
		}
		const idHex = blob.subarray(0, 4).toString('hex');
		const known = keys.find((key) => key.name === name && key.idHex === idHex);
		if (!known) continue;
		if (!known.key.verify(Buffer.from(text, 'utf8'), blob.subarray(4))) {
			return { kind: 'refused', message: `the signature of ${name} doesn't fit the note: it was altered` };
		}
		signedBy.add(name);
	}
	if (signedBy.size === 0) return { kind: 'refused', message: 'the note is signed by no known key' };
	return { kind: 'ok', text, signedBy: [...signedBy] };
}
