import { encodeCastHeader } from '../../../kit/asciicast.ts';
import { GpuaasError, messageOf } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { Custody } from '../../store/port/nodes.ts';
import type { RecordingRow } from '../../store/port/recordings.ts';
import type { RecordingDeps } from './deps.ts';
import { NO_GAPS, STOPPED } from './gap.ts';
import { outputEndOf } from './output-end.ts';
import type { RecordingFile } from './recording-store.ts';
import { sealRecording } from './seal.ts';
import { type RecordingSummary, TerminalRecorder } from './terminal-recorder.ts';

/**
 * The recordings that grow in this process, and the decision whether a terminal may go on without one. Written by the
 * replica that relays, so that a node, whoever holds it, neither makes nor sees them. A terminal that this process
 * takes up again after another relayed it begins a new part.
 */
export interface RecordedTerminal {
	readonly id: string;
	readonly nodeId: string;
	readonly command: string;
	readonly createdBy: string;
	readonly account: string;
	readonly custody: Custody;
	readonly assignmentId: string | null;
	readonly organization: string | null;
	readonly project: string | null;
	readonly generation: number;
}

export type OpenedRecording =
	| { readonly kind: 'recording'; readonly recorder: TerminalRecorder }
	| { readonly kind: 'refused'; readonly reason: string; readonly message: string }
	| { readonly kind: 'unrecorded'; readonly why: string; readonly isNews: boolean };

export interface TerminalSize {
	readonly columns: number;
	readonly rows: number;
}

/** With `isFatal` the terminal must end. */
export type OnRecordingFailure = (isFatal: boolean, reason: string, message: string) => void;

interface Begun {
	readonly row: RecordingRow;
	/** Of the terminal's output; undefined when the part before doesn't say. */
	readonly outputAt: number | undefined;
}

const PARTS_MAX = 10_000;
/** Of an agent that doesn't say how large its terminal is. */
const SIZE_DEFAULT: TerminalSize = { columns: 80, rows: 24 };

export class Recordings implements AsyncDisposable {
	readonly #deps: RecordingDeps;
	/** Undefined: it begins. Its id is here before its row is anywhere, so that nobody takes it for left over. */
	readonly #live = new Map<string, TerminalRecorder | undefined>();

	constructor(deps: RecordingDeps) {
		this.#deps = deps;
	}

	/** Whether it grows here: what doesn't, and is said to, was left by a crash. */
	isLive(recordingId: string): boolean {
		return this.#live.has(recordingId);
	}

	async open(
		terminal: RecordedTerminal,
		size: TerminalSize | undefined,
		onFailure: OnRecordingFailure,
	): Promise<OpenedRecording> {
		const { policy, log } = this.#deps;
		if (policy.mode === 'off')
			return { kind: 'unrecorded', why: 'this installation records no terminals', isNews: false };
		try {
			return { kind: 'recording', recorder: await this.#begin(terminal, size ?? SIZE_DEFAULT, onFailure) };
		} catch (error) {
			log.warn('a terminal can not be recorded', { terminal: terminal.id, error });
			const why = error instanceof GpuaasError ? error.message : 'an unexpected failure, see the log';
			if (policy.mode === 'best_effort')
				return { kind: 'unrecorded', why: `this terminal is NOT recorded: ${why}`, isNews: true };
			const message = `terminals are only opened with a recording here, and none can begin: ${why}`;
			return { kind: 'refused', reason: 'RECORDING_UNAVAILABLE', message };
		}
	}

	/** Every terminal that is still relayed ends its part: the next process begins another. */
	async [Symbol.asyncDispose](): Promise<void> {
		await Promise.all([...this.#live.values()].map((recorder) => recorder?.cut(STOPPED)));
	}

	async #begin(
		terminal: RecordedTerminal,
		size: TerminalSize,
		onFailure: OnRecordingFailure,
	): Promise<TerminalRecorder> {
		// Before anything is said to be recorded.
		await this.#deps.recordings.check();
		const id = uuidv7(this.#deps.clock.now(), this.#deps.rng);
		this.#live.set(id, undefined);
		try {
			const begun = await this.#insert(id, terminal);
			const recorder = await this.#create(begun, terminal.command, size, onFailure);
			this.#live.set(id, recorder);
			return recorder;
		} catch (error) {
			this.#live.delete(id);
			throw error;
		}
	}

	async #create(
		{ row, outputAt }: Begun,
		title: string,
		{ columns: width, rows: height }: TerminalSize,
		onFailure: OnRecordingFailure,
	): Promise<TerminalRecorder> {
		const { clock, store, recordings, policy } = this.#deps;
		let file: RecordingFile;
		try {
			file = await recordings.create(row.id);
			const env = { TERM: 'xterm-256color' };
			const timestamp = Math.floor(row.startedAtMs / 1000);
			await file.append(encodeCastHeader({ width, height, timestamp, title, env, recording: row.id }));
		} catch (error) {
			const failed = { state: 'failed', endedAtMs: clock.now(), truncated: messageOf(error).slice(0, 512) } as const;
			await store.unit((tx) => tx.recordings.update(row.id, failed, 'recording')).catch(() => {});
			throw error;
		}
		return new TerminalRecorder({
			clock,
			file,
			recordsInput: policy.recordsInput,
			bytesMax: policy.bytesMax,
			part: row.part,
			outputAt,
			onFailure: (error) => onFailure(policy.mode === 'fail_closed', error.reason, endOf(error, policy.mode)),
			seal: (summary) => this.#seal(row, file, summary),
		});
	}

	async #insert(id: string, terminal: RecordedTerminal): Promise<Begun> {
		const { clock, store, replicaId, policy } = this.#deps;
		const startedAtMs = clock.now();
		return await store.unit(function* (tx) {
			const parts = yield* tx.recordings.listParts(terminal.id, PARTS_MAX);
			const row: RecordingRow = {
				id,
				terminalId: terminal.id,
				part: (parts.at(-1)?.part ?? 0) + 1,
				nodeId: terminal.nodeId,
				nodeName: (yield* tx.nodes.get(terminal.nodeId))?.name ?? '',
				state: 'recording',
				createdBy: terminal.createdBy,
				accountName: terminal.account,
				replicaId,
				inputRecorded: policy.recordsInput,
				custody: terminal.custody,
				assignmentId: terminal.assignmentId,
				organization: terminal.organization,
				project: terminal.project,
				generation: terminal.generation,
				startedAtMs,
				endedAtMs: null,
				truncated: '',
				...NO_GAPS,
				bytes: 0,
				events: 0,
				sha256: '',
				manifest: null,
				purgedAtMs: null,
				heldAtMs: null,
				holdReason: '',
			};
			yield* tx.recordings.insert(row);
			return { row, outputAt: outputEndOf(parts.at(-1)) };
		});
	}

	/** What can't be sealed now (a full disk, a lost store) is left for the reconciler, which marks it truncated. */
	async #seal(row: RecordingRow, file: RecordingFile, summary: RecordingSummary): Promise<void> {
		const { clock, log } = this.#deps;
		try {
			const sealed = await file.seal();
			await sealRecording(this.#deps, { ...summary, row, file: sealed, endedAtMs: clock.now() });
		} catch (error) {
			log.warn('a recording was not sealed; it is tried again', { recording: row.id, error });
			await file.close().catch(() => {});
		} finally {
			this.#live.delete(row.id);
		}
	}
}

function endOf(error: GpuaasError, mode: RecordingDeps['policy']['mode']): string {
	return mode === 'fail_closed'
		? `${error.message}, and terminals are only open with one here: this one ended`
		: `${error.message}: from here on this terminal is NOT recorded`;
}
