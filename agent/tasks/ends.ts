import type { Timer } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import { TaskResult as Result } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { OutputChunk } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { Attempt } from './attempt.ts';
import { type Finish, finishedFact, type Refusal, refusedFact } from './facts.ts';
import { outcomeOf } from './outcome.ts';
import { collectInline, INLINE_BYTES_MAX } from './output.ts';
import type { OutputShelf } from './output-shelf.ts';
import type { ProcessHost, TaskResult } from './process-host.ts';
import type { RunnerDeps } from './runner-deps.ts';
import type { WriteBehind } from './write-behind.ts';

/** While receipts wait for a certificate that is valid. */
const LOOK_AGAIN_MS = 60_000;

const RESULT_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(Result).map(([name, value]) => [value, name]),
);

/**
 * Ends attempts: one signed receipt, or one refusal, each in the commit that closes the attempt. A result stays in the
 * process host until that commit, so that a crash at any moment leads here again and never to a second receipt.
 */
export class Ends {
	readonly #deps: RunnerDeps;
	readonly #writes: WriteBehind;
	readonly #shelf: OutputShelf;
	readonly #onEnded: (attempt: Attempt) => void;
	readonly #signal: AbortSignal;
	/** Ends that wait for a certificate to sign with. */
	readonly #unsigned = new Set<() => void>();
	#timer: Timer | undefined;

	constructor(
		deps: RunnerDeps,
		parts: { readonly writes: WriteBehind; readonly shelf: OutputShelf; readonly signal: AbortSignal },
		/** The end is durable. */
		onEnded: (attempt: Attempt) => void,
	) {
		this.#deps = deps;
		this.#writes = parts.writes;
		this.#shelf = parts.shelf;
		this.#signal = parts.signal;
		this.#onEnded = onEnded;
		deps.identity.onChange(() => this.#signAll());
	}

	/** The program ended, or its host says that nobody knows. */
	finish(attempt: Attempt, result: TaskResult, host: ProcessHost | undefined): void {
		if (!attempt.end()) return;
		this.#finish(attempt, result, host).catch((error: unknown) => {
			attempt.log.error('an end could not be written; it is found again at the next start', { error });
		});
	}

	async #finish(attempt: Attempt, result: TaskResult, host: ProcessHost | undefined): Promise<void> {
		const output = await this.#inlineOutput(attempt, result, host);
		if (!this.#signal.aborted) this.write(attempt, { outcome: outcomeOf(result), output });
	}

	/** Undefined: it goes by a stream of its own. */
	async #inlineOutput(
		attempt: Attempt,
		{ output }: TaskResult,
		host: ProcessHost | undefined,
	): Promise<readonly OutputChunk[] | undefined> {
		if (attempt.isStreaming || output.droppedBytes > 0 || output.totalBytes > INLINE_BYTES_MAX) return undefined;
		if (output.totalBytes === 0) return [];
		if (host === undefined) return undefined;
		try {
			return await collectInline(host, attempt, this.#signal);
		} catch (error) {
			attempt.log.warn('an output goes by a stream of its own', { error: messageOf(error) });
			return undefined;
		}
	}

	/** Signs and closes an attempt that `attempt.end()` has claimed. */
	write(attempt: Attempt, finish: Finish): void {
		if (this.#waitsForCertificate(attempt, finish)) return;
		const { journal, clock, identity, platform } = this.#deps;
		const signatory = { identity, agentVersion: platform.agentVersion, bootId: platform.bootId };
		let outputStored = false;
		this.#writes.add({
			change: () => {
				const row = journal.getAttempt(attempt.taskId, attempt.attempt);
				if (row === undefined || row.phase === 'finished' || row.phase === 'done') return;
				outputStored = finish.output !== undefined || attempt.isOutputStored;
				const context = { nowMs: clock.now(), correlationId: attempt.correlationId };
				journal.putAttempt({ ...row, phase: 'finished', outputStored });
				journal.appendFacts([finishedFact(context, row, finish, signatory)]);
			},
			after: () => {
				const { result, reason } = finish.outcome;
				attempt.log.debug('ended a task', { result: RESULT_NAMES[result], reason });
				this.#onEnded(attempt);
				if (outputStored) this.#shelf.forget(attempt);
				else this.#shelf.stream(attempt);
			},
		});
	}

	/** Closes an attempt that was never started. */
	refuse(attempt: Attempt, refusal: Refusal): void {
		if (!attempt.end()) return;
		const { journal, clock } = this.#deps;
		attempt.log.info('refused a task', { reason: refusal.reason });
		this.#writes.add({
			change: () => {
				const row = journal.getAttempt(attempt.taskId, attempt.attempt);
				if (row === undefined || row.phase === 'finished' || row.phase === 'done') return;
				const context = { nowMs: clock.now(), correlationId: attempt.correlationId };
				journal.putAttempt({ ...row, phase: 'finished', outputStored: true });
				journal.appendFacts([refusedFact(context, row, refusal)]);
			},
			after: () => this.#onEnded(attempt),
		});
	}

	/** Nobody would believe a signature after the certificate's end: the node recovers first. */
	#waitsForCertificate(attempt: Attempt, finish: Finish): boolean {
		const { identity, clock } = this.#deps;
		const isExpired = () => identity.credential().notAfterMs <= clock.now();
		if (!isExpired()) return false;
		attempt.log.warn('a receipt waits for a new certificate');
		const again = () => {
			if (isExpired()) return;
			this.#unsigned.delete(again);
			this.write(attempt, finish);
		};
		this.#unsigned.add(again);
		this.#lookAgain();
		return true;
	}

	/** A clock that was ahead and is right again changes no identity. */
	#lookAgain(): void {
		this.#timer ??= this.#deps.clock.setTimer(() => {
			this.#timer = undefined;
			if (this.#signal.aborted) return;
			this.#signAll();
			if (this.#unsigned.size > 0) this.#lookAgain();
		}, LOOK_AGAIN_MS);
	}

	#signAll(): void {
		for (const sign of [...this.#unsigned]) sign();
	}
}
