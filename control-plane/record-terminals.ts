import type { Scope } from '../kit/scope.ts';
import { FileRecordingStore } from './adapters/object-store/file-recording-store.ts';
import type { RecordingDeps } from './app/recordings/deps.ts';
import { Recordings } from './app/recordings/recordings.ts';
import type { ControlPlaneConfig } from './config.ts';
import { TerminalRecordingsReconciler } from './reconcilers/terminal-recordings.ts';
import { foldersOf } from './settings.ts';

/** Where recordings are kept, by the configuration. */
export function recordingStore(config: ControlPlaneConfig): FileRecordingStore {
	return new FileRecordingStore({
		folder: foldersOf(config).recordings,
		freeBytesMin: config.recordings.freeFloorBytes,
	});
}

/** What records terminals, and what looks after recordings. Ends before the store does, so that every part is sealed. */
export function recordTerminals(
	deps: Omit<RecordingDeps, 'policy'>,
	config: ControlPlaneConfig['recordings'],
	scope: Scope,
): Recordings {
	const policy = { mode: config.mode, recordsInput: config.input, bytesMax: config.maxBytes };
	const recordings = scope.use(new Recordings({ ...deps, policy }));
	scope.use(
		new TerminalRecordingsReconciler({
			...deps,
			policy,
			isLive: (id) => recordings.isLive(id),
			retentionMs: config.retentionMs,
		}),
	);
	return recordings;
}
