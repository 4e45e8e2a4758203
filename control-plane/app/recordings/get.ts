import { create, fromBinary } from '@bufbuild/protobuf';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { GetRecordingResponseSchema, RecordingService } from '../../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { query } from '../use-case.ts';
import { recordingMessage } from './view.ts';

/** One recording with its signed manifest, which stays when the content is purged. */
export const getRecording = query('recording', RecordingService.method.getRecording, {
	*read(_tx, _call, { recording }) {
		return recording;
	},
	answer: (_call, row) =>
		create(GetRecordingResponseSchema, {
			recording: recordingMessage(row),
			...(row.manifest === null ? {} : { manifest: fromBinary(DsseEnvelopeSchema, row.manifest) }),
		}),
});
