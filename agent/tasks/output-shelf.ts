import { GpuaasError } from '../../kit/error.ts';
import type { OutputPiece, OutputSource } from '../control/command-sink.ts';
import type { Journal } from '../journal/journal.ts';
import { type Attempt, keyOf } from './attempt.ts';
import type { AttemptName } from './facts.ts';
import { readPieces, readPiecesLive } from './output.ts';
import type { ProcessHost, TaskKey } from './process-host.ts';
import type { WriteBehind } from './write-behind.ts';

/** What ends without it is taken for all of the output, and then nobody has the rest any more. */
function unread(why: string): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: `the output was not read to its end: ${why}; it goes on later from what is stored`,
	});
}

/**
 * Output that goes by streams of its own: of tasks that run for a while, and of ended ones whose output was too large
 * to go with the receipt, until the control plane has it. The bytes stay in the process host's spool; here is only
 * whose they are. An attempt's spool is dropped once its end and its output are both safe.
 */
export class OutputShelf implements OutputSource {
	readonly #journal: Journal;
	readonly #writes: WriteBehind;
	readonly #signal: AbortSignal;
	/** Not ended attempts of the runner. */
	readonly #open: (key: string) => Attempt | undefined;
	readonly #pending = new Map<string, AttemptName>();
	#host: ProcessHost | undefined;
	#listener: () => void = () => {};

	constructor(journal: Journal, writes: WriteBehind, open: (key: string) => Attempt | undefined, signal: AbortSignal) {
		this.#journal = journal;
		this.#writes = writes;
		this.#open = open;
		this.#signal = signal;
	}

	/** A new host: what is pending is found again. Undefined: nothing can be read now. */
	setHost(host: ProcessHost | undefined): void {
		this.#host = host;
		this.#pending.clear();
	}

	pending(): readonly AttemptName[] {
		return [...this.#pending.values()];
	}

	onPending(listener: () => void): void {
		this.#listener = listener;
	}

	async *read(taskId: string, attempt: number, fromOffset: bigint, signal: AbortSignal): AsyncGenerator<OutputPiece> {
		if (this.#host === undefined) throw unread('there is no process host now');
		const key = { taskId, attempt };
		const decision = this.#open(keyOf(key))?.decision;
		const either = AbortSignal.any([signal, this.#signal]);
		const isWhole =
			decision?.kind === 'permit'
				? yield* readPiecesLive(this.#host, key, fromOffset, either, decision.outputBytesMax)
				: yield* readPieces(this.#host, key, fromOffset, either);
		if (!isWhole) throw unread('the agent stops, or the upload is over');
	}

	stored(taskId: string, attempt: number): void {
		const key = keyOf({ taskId, attempt });
		this.#pending.delete(key);
		const open = this.#open(key);
		// Its end is being written: that write says that the output is stored, and then forgets it.
		if (open !== undefined) open.isOutputStored = true;
		else this.#markStored(taskId, attempt);
	}

	#markStored(taskId: string, attempt: number): void {
		const row = this.#journal.getAttempt(taskId, attempt);
		if (row === undefined || row.outputStored) return;
		this.#writes.add({
			change: () => {
				const current = this.#journal.getAttempt(taskId, attempt);
				if (current !== undefined) this.#journal.putAttempt({ ...current, outputStored: true });
			},
			after: () => this.forget({ taskId, attempt }),
		});
	}

	/** From now on this attempt's output goes by a stream of its own. */
	stream({ taskId, attempt, fencingToken }: AttemptName): void {
		this.#pending.set(keyOf({ taskId, attempt }), { taskId, attempt, fencingToken });
		this.#listener();
	}

	/** Everything about the attempt is safe: its spool may go. */
	forget({ taskId, attempt }: TaskKey): void {
		this.#pending.delete(keyOf({ taskId, attempt }));
		this.#host?.forget({ taskId, attempt }).catch(() => {
			// The host was lost: it is found and dropped when one is reached again.
		});
	}
}
