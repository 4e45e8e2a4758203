import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ed25519SignerFromSeed } from '../keys/signer.ts';
import { type DsseEnvelope, signDsseSync } from './dsse.ts';
import {
	decodeRecordingManifest,
	encodeRecordingManifest,
	type RecordingManifest,
	STATEMENT_TYPE,
	verifyRecording,
} from './recording.ts';
import { VerifyKey } from './signature.ts';

const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(9));
const keys = [VerifyKey.parse(signer.spki())].filter((key) => key !== undefined);
const file = Buffer.from('{"version":2,"width":80,"height":24}\n[0.1,"o","hello"]\n');
const manifest: RecordingManifest = {
	recordingId: 'r1',
	terminalId: 't1',
	part: 1,
	nodeId: 'n1',
	nodeName: 'gpu-1',
	openedBy: 'p1',
	organization: '',
	project: '',
	assignmentId: '',
	generation: 1,
	custody: 'platform',
	replicaId: 'replica-1',
	startedAtMs: 1,
	endedAtMs: 2,
	events: 1,
	inputRecorded: false,
	truncated: '',
	gaps: 1,
	gapBytes: 20,
	outputEnd: 120,
	bytes: file.length,
	sha256: createHash('sha256').update(file).digest('hex'),
};
const envelope = signDsseSync(STATEMENT_TYPE, encodeRecordingManifest(manifest), signer);

async function* chunks(bytes: Uint8Array) {
	for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7);
}
const verify = (sealed: DsseEnvelope, bytes: Uint8Array, trusted = keys) =>
	verifyRecording(sealed, chunks(bytes), trusted);

test('what was sealed is verified', async () => {
	expect(await verify(envelope, file)).toEqual({ kind: 'verified', manifest });
});

describe('tampering is found:', () => {
	test('any changed byte, any cut tail, anything added', async () => {
		for (let at = 0; at < file.length; at += 1) {
			const changed = Buffer.from(file);
			changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
			expect((await verify(envelope, changed)).kind).toBe('tampered');
			expect(await verify(envelope, file.subarray(0, at))).toMatchObject({
				kind: 'tampered',
				what: expect.stringContaining('end is missing'),
			});
		}
		expect(await verify(envelope, Buffer.concat([file, Buffer.from('\n')]))).toMatchObject({
			what: expect.stringContaining('added'),
		});
	});

	test('a file of another recording', async () => {
		const other = Buffer.from(file.toString().replace('hello', 'world'));
		expect(await verify(envelope, other)).toMatchObject({
			kind: 'tampered',
			what: expect.stringContaining('not the one'),
		});
	});

	test('a manifest that was changed, or signed by somebody else, or is of another kind', async () => {
		for (let at = 0; at < envelope.payload.length; at += 5) {
			const payload = Buffer.from(envelope.payload);
			payload.writeUInt8(payload.readUInt8(at) ^ 1, at);
			expect((await verify({ ...envelope, payload }, file)).kind).toBe('tampered');
		}
		const stranger = ed25519SignerFromSeed(new Uint8Array(32).fill(8));
		expect((await verify(signDsseSync(STATEMENT_TYPE, envelope.payload, stranger), file)).kind).toBe('tampered');
		expect((await verify(signDsseSync('text/plain', envelope.payload, signer), file)).kind).toBe('tampered');
		expect((await verify(signDsseSync(STATEMENT_TYPE, Buffer.from('{}'), signer), file)).kind).toBe('tampered');
		expect((await verify(envelope, file, [])).kind).toBe('tampered');
	});
});

test('whatever bytes are decoded, they are a whole manifest or nothing', () => {
	expect(decodeRecordingManifest(encodeRecordingManifest(manifest))).toEqual(manifest);
	const text = Buffer.from(encodeRecordingManifest(manifest)).toString();
	fc.assert(
		fc.property(
			fc.oneof(
				fc.uint8Array(),
				fc.json().map((json) => Buffer.from(json)),
				fc.nat(text.length).map((at) => Buffer.from(text.slice(0, at))),
			),
			(bytes) => {
				const decoded = decodeRecordingManifest(bytes);
				return decoded === undefined || typeof decoded.sha256 === 'string';
			},
		),
	);
	for (const name of Object.keys(manifest)) {
		if (name === 'sha256') continue;
		const { predicate, ...rest } = JSON.parse(text) as { predicate: Record<string, unknown> };
		delete predicate[name];
		const decoded = decodeRecordingManifest(Buffer.from(JSON.stringify({ ...rest, predicate })));
		// Those that were signed before there were these stay good.
		if (name === 'gaps' || name === 'gapBytes') expect(decoded, name).toEqual({ ...manifest, [name]: 0 });
		else if (name === 'outputEnd') expect(decoded).toEqual({ ...manifest, outputEnd: null });
		else expect(decoded, name).toBeUndefined();
	}
});
