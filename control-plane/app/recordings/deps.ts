import type { Clock } from '../../../kit/clock.ts';
import type { Rng } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Signer } from '../../../pki/keys/signer.ts';
import type { Store } from '../../store/port/store.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { RecordingStore } from './recording-store.ts';

/** What recording stands on. */
export interface RecordingDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly store: Store;
	readonly appendAudit: AppendAudit;
	readonly recordings: RecordingStore;
	/** The audit key: what verifiers have already. */
	readonly signer: Signer;
	readonly replicaId: string;
	readonly policy: RecordingPolicy;
}

export interface RecordingPolicy {
	/** `off` records nothing; `best_effort` goes on without, and says so; `fail_closed`: no recording, no terminal. */
	readonly mode: 'off' | 'best_effort' | 'fail_closed';
	/** Whether typed text that the terminal showed is recorded apart from the output. */
	readonly recordsInput: boolean;
	readonly bytesMax: number;
}
