import { fromBinary } from '@bufbuild/protobuf';
import { decodeRecordingManifest } from '../../../pki/verify/recording.ts';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import type { RecordingRow } from '../../store/port/recordings.ts';

/**
 * Where the output of a terminal goes on after its newest part, by what was signed of it: at its beginning before the
 * first; undefined after one that isn't sealed yet, failed, or was completed after a crash.
 */
export function outputEndOf(newest: Pick<RecordingRow, 'manifest'> | undefined): number | undefined {
	if (newest === undefined) return 0;
	if (newest.manifest === null) return undefined;
	return decodeRecordingManifest(fromBinary(DsseEnvelopeSchema, newest.manifest).payload)?.outputEnd ?? undefined;
}
