import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { ReadRecordingResponseSchema, RecordingService } from '../../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import type { RecordingRow } from '../../store/port/recordings.ts';
import { query } from '../use-case.ts';

const BYTES_DEFAULT = 256 * 1024;

/** A page of the file, exactly as it was sealed. Who watched what is evidence: every page that is given leaves a record. */
export const readRecording = query('recording', RecordingService.method.readRecording, {
	*read(_tx, _call, { recording }) {
		return recording;
	},
	async answer({ deps, ctx, request }, row) {
		const missing = whyNothing(row);
		if (missing !== undefined) throw missing;
		const offset = Number(request.offset);
		const data = await deps.recordings.read(row.sha256, offset, request.bytesMax || BYTES_DEFAULT);
		if (data === undefined) throw lost();
		const nextOffset = offset + data.length;
		await deps.store.unit((tx) =>
			deps.appendAudit(tx, ctx, {
				action: 'recordings.read',
				target: `recordings/${row.id}`,
				result: 'ok',
				reason: '',
				...(row.organization === null ? {} : { organization: row.organization }),
				detail: { terminal: row.terminalId, offset, bytes: data.length },
			}),
		);
		return create(ReadRecordingResponseSchema, {
			data: data as Uint8Array<ArrayBuffer>,
			nextOffset: BigInt(nextOffset),
			complete: nextOffset >= row.bytes,
		});
	},
});

function whyNothing({ state, truncated }: RecordingRow): GpuaasError | undefined {
	switch (state) {
		case 'sealed':
			return undefined;
		case 'recording':
			return refusal(
				'RECORDING_NOT_SEALED',
				'the terminal still runs, or its recording is being sealed; watch it with gpuaas terminal attach --observe, or read it once it has ended',
			);
		case 'purged':
			return refusal(
				'RECORDING_PURGED',
				'retention has deleted the content of this recording; its manifest and digest remain',
			);
		case 'failed':
			return refusal('RECORDING_UNAVAILABLE', `nothing of this recording could be kept: ${truncated}`);
	}
}

function refusal(reason: string, message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason, message });
}

function lost(): GpuaasError {
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'RECORDING_UNAVAILABLE',
		message:
			'the content of this recording is not where it was kept; another replica may have it, else somebody removed it from the disk. The manifest says what it was',
	});
}
