import { createHash } from 'node:crypto';
import { type DsseEnvelope, verifyDsse } from './dsse.ts';
import type { VerifyKey } from './signature.ts';

/**
 * The manifest of a sealed recording: an in-toto Statement v1 (github.com/in-toto/attestation) about the exact bytes of its
 * asciicast file, in a DSSE envelope by the control plane's audit key. Checked offline with the file, the envelope and
 * that key; what the statement does not say is that the control plane recorded all that a terminal showed.
 */
export const STATEMENT_TYPE = 'application/vnd.in-toto+json';
const STATEMENT_V1 = 'https://in-toto.io/Statement/v1';
export const RECORDING_PREDICATE = 'urn:gpuaas:terminal-recording:v1';
const MANIFEST_BYTES_MAX = 64 * 1024;

/** Times are ms since the epoch, of the control plane's clock. */
export interface RecordingManifest {
	readonly recordingId: string;
	readonly terminalId: string;
	/** A terminal that outlives a control plane goes on in the next part; from 1. */
	readonly part: number;
	readonly nodeId: string;
	readonly nodeName: string;
	/** Of the principal that opened the terminal. */
	readonly openedBy: string;
	/** Empty: the platform's own. */
	readonly organization: string;
	readonly project: string;
	readonly assignmentId: string;
	readonly generation: number;
	/** Of the node when it began: `platform`, `tenant`, `transit`. */
	readonly custody: string;
	readonly replicaId: string;
	readonly startedAtMs: number;
	readonly endedAtMs: number;
	/** Lines after the header. */
	readonly events: number;
	readonly inputRecorded: boolean;
	/** Why it ends before its terminal did; empty when it has its end. */
	readonly truncated: string;
	/** Where output never came from the node; each is marked in the file. 0 in manifests from before they were counted. */
	readonly gaps: number;
	readonly gapBytes: number;
	/** Of the terminal's output, where it ends and the next part begins; null when that isn't known (a crash). */
	readonly outputEnd: number | null;
	readonly bytes: number;
	/** Hex, of the whole file. */
	readonly sha256: string;
}

const TEXTS = [
	'recordingId',
	'terminalId',
	'nodeId',
	'nodeName',
	'openedBy',
	'organization',
	'project',
	'assignmentId',
	'custody',
	'replicaId',
	'truncated',
] as const;
const NUMBERS = ['part', 'generation', 'startedAtMs', 'endedAtMs', 'events', 'bytes', 'gaps', 'gapBytes'] as const;

/** The bytes to sign. */
export function encodeRecordingManifest({ sha256, ...predicate }: RecordingManifest): Uint8Array {
	const statement = {
		_type: STATEMENT_V1,
		subject: [{ name: `${predicate.recordingId}.cast`, digest: { sha256 } }],
		predicateType: RECORDING_PREDICATE,
		predicate,
	};
	return Buffer.from(JSON.stringify(statement), 'utf8');
}

/** Undefined for anything but a whole statement of ours. */
export function decodeRecordingManifest(payload: Uint8Array): RecordingManifest | undefined {
	if (payload.length > MANIFEST_BYTES_MAX) return undefined;
	try {
		const { _type, subject, predicateType, predicate } = JSON.parse(Buffer.from(payload).toString('utf8')) as Record<
			string,
			unknown
		>;
		if (
			_type !== STATEMENT_V1 ||
			predicateType !== RECORDING_PREDICATE ||
			!Array.isArray(subject) ||
			subject.length !== 1
		)
			return undefined;
		const [{ digest }] = subject as [{ digest?: Record<string, unknown> }];
		const found: Record<string, unknown> = { gaps: 0, gapBytes: 0, outputEnd: null, ...(predicate as object) };
		const sha256 = digest?.sha256;
		if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) return undefined;
		const isWhole =
			TEXTS.every((name) => typeof found[name] === 'string') &&
			NUMBERS.every((name) => isCount(found[name])) &&
			(found.outputEnd === null || isCount(found.outputEnd)) &&
			typeof found.inputRecorded === 'boolean';
		return isWhole ? ({ ...found, sha256 } as unknown as RecordingManifest) : undefined;
	} catch {
		return undefined;
	}
}

function isCount(value: unknown): boolean {
	return Number.isSafeInteger(value) && Number(value) >= 0;
}

export type RecordingVerdict =
	| { readonly kind: 'verified'; readonly manifest: RecordingManifest }
	| { readonly kind: 'tampered'; readonly what: string };

/** Whether `file` is, byte for byte, what the control plane sealed. `file` is read once, in any chunks. */
export async function verifyRecording(
	envelope: DsseEnvelope,
	file: AsyncIterable<Uint8Array>,
	keys: readonly VerifyKey[],
): Promise<RecordingVerdict> {
	const tampered = (what: string): RecordingVerdict => ({ kind: 'tampered', what });
	const signed = verifyDsse(envelope, { payloadType: STATEMENT_TYPE, keys });
	if (signed.kind === 'refused') return tampered(`the manifest: ${signed.message}`);
	const manifest = decodeRecordingManifest(signed.payload);
	if (manifest === undefined) return tampered('the manifest is no statement about a recording');
	const hash = createHash('sha256');
	let bytes = 0;
	for await (const chunk of file) {
		hash.update(chunk);
		bytes += chunk.length;
	}
	if (bytes < manifest.bytes)
		return tampered(`the file has ${bytes} bytes and was sealed with ${manifest.bytes}: its end is missing`);
	if (bytes > manifest.bytes)
		return tampered(`the file has ${bytes} bytes and was sealed with ${manifest.bytes}: something was added`);
	if (hash.digest('hex') !== manifest.sha256)
		return tampered('the file is not the one that was sealed, or was changed (SHA-256 differs)');
	return { kind: 'verified', manifest };
}
