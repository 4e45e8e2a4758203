import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { AssignmentRefSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	type Recording,
	RecordingSchema,
	RecordingState,
} from '../../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import type { RecordingRow } from '../../store/port/recordings.ts';
import { CUSTODY } from '../wire/node.ts';

/** Rows of recordings as messages. */
const STATE: Readonly<Record<RecordingRow['state'], RecordingState>> = {
	recording: RecordingState.RECORDING,
	sealed: RecordingState.SEALED,
	failed: RecordingState.FAILED,
	purged: RecordingState.PURGED,
};

export function recordingMessage(row: RecordingRow): Recording {
	const { assignmentId, organization, project, generation } = row;
	const assignment =
		assignmentId === null
			? {}
			: {
					assignment: create(AssignmentRefSchema, {
						assignmentId,
						organization: organization ?? '',
						project: project ?? '',
						generation,
					}),
				};
	return create(RecordingSchema, {
		id: row.id,
		terminalId: row.terminalId,
		part: row.part,
		nodeId: row.nodeId,
		nodeName: row.nodeName,
		state: STATE[row.state],
		createdBy: row.createdBy,
		user: row.accountName,
		startedAt: timestampFromMs(row.startedAtMs),
		...time('endedAt', row.endedAtMs),
		truncated: row.truncated,
		gaps: BigInt(row.gaps),
		gapBytes: BigInt(row.gapBytes),
		bytes: BigInt(row.bytes),
		events: BigInt(row.events),
		sha256: row.sha256,
		inputRecorded: row.inputRecorded,
		...assignment,
		custody: CUSTODY[row.custody],
		...time('purgedAt', row.purgedAtMs),
		...time('heldAt', row.heldAtMs),
		holdReason: row.holdReason,
	});
}

function time<Name extends string>(name: Name, atMs: number | null) {
	return atMs === null ? {} : ({ [name]: timestampFromMs(atMs) } as Record<Name, ReturnType<typeof timestampFromMs>>);
}
