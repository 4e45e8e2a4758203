import { create, toBinary } from '@bufbuild/protobuf';
import { signDsse } from '../../../pki/verify/dsse.ts';
import { encodeRecordingManifest, STATEMENT_TYPE } from '../../../pki/verify/recording.ts';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { systemContext } from '../../context.ts';
import type { RecordingRow } from '../../store/port/recordings.ts';
import type { RecordingDeps } from './deps.ts';
import type { Gaps } from './gap.ts';
import type { SealedFile } from './recording-store.ts';

/**
 * The last step of a recording: its file is under its digest, now the manifest is signed and the row, with an audit
 * record that holds the digest, says so. Signing is before the unit. Repeating it for a row that is sealed does nothing.
 */
export interface Sealing extends Gaps {
	readonly row: RecordingRow;
	readonly file: SealedFile;
	readonly events: number;
	readonly endedAtMs: number;
	/** Empty when it has its end. */
	readonly truncated: string;
	/** Of the terminal's output, where it ends; null when nobody knows. */
	readonly outputEnd: number | null;
}

export async function sealRecording(deps: RecordingDeps, sealing: Sealing): Promise<void> {
	const { store, clock, log, appendAudit, signer } = deps;
	const { row, file, events, endedAtMs, truncated, gaps, gapBytes, outputEnd } = sealing;
	const statement = encodeRecordingManifest({
		recordingId: row.id,
		terminalId: row.terminalId,
		part: row.part,
		nodeId: row.nodeId,
		nodeName: row.nodeName,
		openedBy: row.createdBy,
		organization: row.organization ?? '',
		project: row.project ?? '',
		assignmentId: row.assignmentId ?? '',
		generation: row.generation,
		custody: row.custody,
		replicaId: row.replicaId,
		startedAtMs: row.startedAtMs,
		endedAtMs,
		events,
		inputRecorded: row.inputRecorded,
		truncated,
		gaps,
		gapBytes,
		outputEnd,
		...file,
	});
	const envelope = create(DsseEnvelopeSchema, await signDsse(STATEMENT_TYPE, statement, signer));
	const manifest = toBinary(DsseEnvelopeSchema, envelope);
	const ctx = systemContext('recordings/seal', clock, log, row.id);
	await store.unit(function* (tx) {
		const patch = { state: 'sealed', endedAtMs, truncated, gaps, gapBytes, events, manifest, ...file } as const;
		if ((yield* tx.recordings.update(row.id, patch, 'recording')) === undefined) return;
		yield* appendAudit(tx, ctx, {
			action: 'recordings.seal',
			target: `recordings/${row.id}`,
			result: 'ok',
			reason: '',
			custody: row.custody,
			...(row.organization === null ? {} : { organization: row.organization }),
			detail: {
				terminal: row.terminalId,
				node: row.nodeId,
				part: row.part,
				sha256: file.sha256,
				bytes: file.bytes,
				truncated: truncated !== '',
				gaps,
			},
		});
	});
}
