import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import {
	HoldRecordingResponseSchema,
	RecordingService,
	ReleaseRecordingResponseSchema,
} from '../../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import type { RecordingPatch, RecordingRow } from '../../store/port/recordings.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AuditEvent } from '../audit/event.ts';
import type { Gate } from '../gates.ts';
import { mutation } from '../use-case.ts';
import { recordingMessage } from './view.ts';

/** Throws RECORDING_PURGED, RECORDING_UNAVAILABLE. */
const HAS_CONTENT: Gate<'recording'> = {
	gate: 'state',
	check(_tx, { target: { recording } }) {
		if (!HOLDABLE.has(recording.state)) throw noContent(recording);
		return `its content is ${recording.state}`;
	},
};

/** A legal hold beats retention; holding again replaces the reason. */
export const holdRecording = mutation('recording', RecordingService.method.holdRecording, {
	prepare: () => undefined,
	gates: [HAS_CONTENT],
	*apply(tx, { request, nowMs }, { recording }) {
		const heldAtMs = recording.heldAtMs ?? nowMs;
		const row = yield* change(tx, recording, { heldAtMs, holdReason: request.reason });
		const response = create(HoldRecordingResponseSchema, { recording: recordingMessage(row) });
		return { response, audit: eventOf('recordings.hold', row, request.reason) };
	},
});

export const releaseRecording = mutation('recording', RecordingService.method.releaseRecording, {
	prepare: () => undefined,
	gates: [HAS_CONTENT],
	*apply(tx, { request }, { recording }) {
		const row = yield* change(tx, recording, { heldAtMs: null, holdReason: '' });
		const response = create(ReleaseRecordingResponseSchema, { recording: recordingMessage(row) });
		return { response, audit: eventOf('recordings.release', row, request.reason) };
	},
});

const HOLDABLE: ReadonlySet<RecordingRow['state']> = new Set(['recording', 'sealed']);

function* change(tx: Tx, recording: RecordingRow, patch: RecordingPatch): Plan<RecordingRow> {
	const row = yield* tx.recordings.update(recording.id, patch, recording.state);
	if (row === undefined) throw noContent(recording);
	return row;
}

function noContent({ state }: RecordingRow): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: state === 'failed' ? 'RECORDING_UNAVAILABLE' : 'RECORDING_PURGED',
		message: 'this recording has no content any more that could be held; its manifest stays in any case',
	});
}

function eventOf(action: string, row: RecordingRow, reason: string): AuditEvent {
	return {
		action,
		target: `recordings/${row.id}`,
		result: 'ok',
		reason: '',
		...(row.organization === null ? {} : { organization: row.organization }),
		detail: { terminal: row.terminalId },
		personal: { reason },
	};
}
