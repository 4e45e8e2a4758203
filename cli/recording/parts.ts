import { GpuaasError } from '../../kit/error.ts';
import { type Recording, RecordingState } from '../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { collect } from '../client.ts';
import type { RecordingClient } from './source.ts';

/** A part of what a terminal showed; or what is known of one, or of several, that nothing was kept of. */
export type Part =
	| { readonly kind: 'kept'; readonly recording: Recording }
	| { readonly kind: 'lost'; readonly name: string; readonly message: string };

/** As many as a terminal may have. */
const PARTS_MAX = 10_000;

/** By its own id, or all parts of a terminal in order, those that were lost too. Throws RECORDING_NOT_FOUND. */
export async function findParts(client: RecordingClient, id: string): Promise<readonly Part[]> {
	try {
		const { recording } = await client.getRecording({ recordingId: id });
		return recording === undefined ? [] : [partOf(recording)];
	} catch (error) {
		if (!(error instanceof GpuaasError) || error.reason !== 'RECORDING_NOT_FOUND') throw error;
		const { items } = await collect(
			(pageToken) => client.listRecordings({ terminalId: id, pageToken, pageSize: 1000 }),
			(response) => response.recordings,
			PARTS_MAX,
		);
		if (items.length === 0) throw error;
		return allParts(items);
	}
}

/** A hole in the numbers is a part that was lost with its row. */
export function allParts(recordings: readonly Recording[]): readonly Part[] {
	const parts: Part[] = [];
	let next = 1;
	for (const recording of recordings.toSorted((left, right) => left.part - right.part)) {
		const { part, terminalId } = recording;
		if (part > next) {
			const which = part - next === 1 ? `part ${next} was lost` : `parts ${next} to ${part - 1} were lost`;
			parts.push({ kind: 'lost', name: terminalId, message: `${which}: nothing is known of it` });
		}
		parts.push(partOf(recording));
		next = part + 1;
	}
	return parts;
}

export function keptOf(parts: readonly Part[]): readonly Recording[] {
	return parts.flatMap((part) => (part.kind === 'kept' ? [part.recording] : []));
}

function partOf(recording: Recording): Part {
	if (recording.state !== RecordingState.FAILED) return { kind: 'kept', recording };
	const why = recording.truncated === '' ? '' : `: ${recording.truncated}`;
	return { kind: 'lost', name: recording.id, message: `part ${recording.part} was lost${why}` };
}
