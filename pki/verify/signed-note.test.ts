import { describe, expect, it } from 'vitest';
import { ed25519SignerFromSeed, generateSigner } from '../keys/signer.ts';
import { noteKey, noteKeyText, parseNoteKey, signNote, signNoteSync, verifyNote } from './signed-note.ts';

/** The example of golang.org/x/mod/sumdb/note, whose keys are public, both halves. */
const GO = {
	key: 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW',
	seed: Buffer.from('AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz', 'base64').subarray(1),
	text: "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
	line: '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n',
};
/** The example of C2SP signed-note. */
const C2SP = {
	key: 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
	note: 'This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n',
};

function keyOf(text: string) {
	const key = parseNoteKey(text);
	if (!key) throw new Error('the vector has a verifier key');
	return key;
}

describe('signed note vectors', () => {
	it("verifies the specification's example", () => {
		const result = verifyNote(C2SP.note, [keyOf(C2SP.key)]);
		expect(result).toEqual({ kind: 'ok', text: 'This is an example message.\n', signedBy: ['example.com/foo'] });
		expect(verifyNote(C2SP.note.replace('This', 'That'), [keyOf(C2SP.key)]).kind).toBe('refused');
	});

	it("makes Go's note from Go's key, byte for byte", async () => {
		const signer = ed25519SignerFromSeed(GO.seed);
		expect(signNoteSync(GO.text, 'PeterNeumann', signer)).toBe(`${GO.text}\n${GO.line}`);
		expect(await signNote(GO.text, 'PeterNeumann', signer)).toBe(`${GO.text}\n${GO.line}`);
		expect(noteKeyText(noteKey('PeterNeumann', signer.spki()))).toBe(GO.key);
		expect(verifyNote(`${GO.text}\n${GO.line}`, [keyOf(GO.key)]).kind).toBe('ok');
	});

	it('splits at the last blank line, and counts non-ASCII text in bytes', () => {
		const signer = generateSigner('ed25519');
		const text = 'trafitto da un raggio di sole:\n\ned è subito sera.\n';
		const note = signNoteSync(text, 'quasimodo.example/salvatore', signer);
		const key = noteKey('quasimodo.example/salvatore', signer.spki());
		expect(verifyNote(note, [key])).toMatchObject({ kind: 'ok', text });
	});
});

describe('verifyNote', () => {
	const key = keyOf(GO.key);
	const note = `${GO.text}\n${GO.line}`;
	const other = generateSigner('ed25519');

	it('ignores signatures of unknown keys, also under a known name', () => {
		const stranger = signNoteSync(GO.text, 'PeterNeumann', other).split('\n\n')[1] ?? '';
		expect(verifyNote(`${GO.text}\n${stranger}${GO.line}`, [key]).kind).toBe('ok');
		expect(verifyNote(`${GO.text}\n${stranger}`, [key])).toMatchObject({
			message: expect.stringContaining('no known key'),
		});
		expect(verifyNote(note, []).kind).toBe('refused');
	});

	it('refuses the whole note when one known key does not hold', () => {
		const second = noteKey('second', other.spki());
		const wrong = signNoteSync('another text\n', 'second', other).split('\n\n')[1] ?? '';
		expect(verifyNote(`${note}${wrong}`, [key]).kind).toBe('ok');
		expect(verifyNote(`${note}${wrong}`, [key, second]).kind).toBe('refused');
	});

	it.each([
		['no blank line', `${GO.text}${GO.line}`],
		['no signature', `${GO.text}\n`],
		['no last newline', note.slice(0, -1)],
		['a carriage return', note.replace('problem,\n', 'problem,\r\n')],
		['a NUL', note.replace('think', 'th\u0000nk')],
		['a hyphen for the dash', note.replace('—', '-')],
		['no base64', note.replace('x08go', '!!!!!')],
		['spare bits in the base64', note.replace('JnAM=', 'JnAN=')],
		['a plus in the name', note.replace('— PeterNeumann', '— Peter+Neumann')],
		['a key id and nothing else', `${GO.text}\n— PeterNeumann x08gow==\n`],
		['65 signatures', note + GO.line.repeat(64)],
		['70,000 characters', 'x'.repeat(70_000) + note],
		['half a surrogate', `\ud800${note}`],
	])('refuses a note with %s', (_name, bad) => {
		expect(verifyNote(bad, [key]).kind).toBe('refused');
	});

	it('refuses verifier keys whose id, type or length is wrong', () => {
		expect(parseNoteKey(GO.key.replace('c74f20a3', 'c74f20a4'))).toBeUndefined();
		expect(parseNoteKey(GO.key.replace('PeterNeumann', 'PeterNeumanN'))).toBeUndefined();
		expect(parseNoteKey('remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2')).toBeUndefined();
		for (const bad of ['', 'a', 'a+b+c', `${GO.key}=`]) expect(parseNoteKey(bad)).toBeUndefined();
	});

	it('asserts what a signer must get right', () => {
		expect(() => signNoteSync('no newline', 'a', other)).toThrow('newline');
		expect(() => signNoteSync('a\tb\n', 'a', other)).toThrow('control');
		expect(() => signNoteSync('a\n', 'a b', other)).toThrow('white space');
		expect(() => signNoteSync('a\n', 'a', generateSigner('ecdsa-p256-sha256'))).toThrow('Ed25519');
	});
});
