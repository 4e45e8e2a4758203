import { fromBinary } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { assert } from '../../kit/assert.ts';
import type { GpuaasError } from '../../kit/error.ts';
import { SparingLog } from '../../kit/sparing-log.ts';
import type { Fact, TaskCancel, TaskOffer } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import {
	TaskResult as Result,
	type TaskEnvelope,
	TaskEnvelopeSchema,
} from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { DeclinedOffer } from '../control/command-sink.ts';
import type { AttemptRow } from '../journal/journal.ts';
import { isUnwritable } from '../journal/rows.ts';
import { Attempt, attemptLog } from './attempt.ts';
import { type AttemptName, acceptedFact, auditFact, finishedFact, type Refusal, refusedFact } from './facts.ts';
import { outcomeWithoutHost } from './outcome.ts';
import { type Decision, decide } from './permit.ts';
import type { RunnerDeps } from './runner-deps.ts';
import { type Claimed, type EnvelopeVerdict, verifyEnvelope } from './verify-envelope.ts';

/**
 * From an offer to an accepted attempt, or to a refusal that stays one: the control plane acts on a refusal, so a
 * second copy of the same offer must not be accepted later, whatever changed meanwhile. Answers wait for `commit`, so
 * that offers which came together share one sync; nothing is launched and nothing acknowledged before. While the journal
 * can't be written offers are declined: that is said at once, and remembered as long as this process lives. Called by the
 * runner.
 */
export const CANCELLED: Refusal = Object.freeze({
	reason: 'CANCELLED',
	message: 'cancelled before it was started; nothing was started',
	retryable: false,
});

interface Answer {
	readonly row?: AttemptRow;
	readonly fact: Fact;
	/** To be launched once the answer is durable. */
	readonly attempt?: Attempt;
	/** What is said instead where it can't be made durable: nothing of the attempt is kept, and nothing was started. */
	readonly declined?: DeclinedOffer;
}

export class Intake {
	readonly #deps: RunnerDeps;
	/** Its disk is full: a line for every task would go onto it. */
	readonly #floods: SparingLog;
	readonly #openCount: () => number;
	readonly #later: (change: () => void) => void;
	#answers: Answer[] = [];
	/** By attempt. None is taken any more: the control plane acts on what was said. */
	readonly #declined = new Map<string, DeclinedOffer>();
	#declinedUntold: DeclinedOffer[] = [];
	readonly #accepted: Attempt[] = [];
	#floor: bigint | undefined;
	/** Tasks with an answer that isn't committed: the journal doesn't know it yet. */
	readonly #answered = new Set<string>();

	/** `openCount`: attempts accepted and not ended. `later`: writes once the journal can be written again. */
	constructor(deps: RunnerDeps, openCount: () => number, later: (change: () => void) => void) {
		this.#deps = deps;
		this.#floods = new SparingLog(deps.log, deps.clock);
		this.#later = later;
		const floor = deps.journal.getSetting(FLOOR);
		this.#floor = floor === undefined ? undefined : BigInt(floor);
		this.#openCount = openCount;
	}

	/** Makes every answer durable, or declines, and returns what is to be launched. */
	commit(): readonly Attempt[] {
		this.#write();
		return this.#accepted.splice(0);
	}

	takeDeclined(): readonly DeclinedOffer[] {
		const untold = this.#declinedUntold;
		this.#declinedUntold = [];
		return untold;
	}

	/** Accepts or refuses, with the next `commit`. */
	take(offer: TaskOffer, correlationId: string): void {
		let verdict = this.#verify(offer);
		const declined = this.#declined.get(attemptOf(verdict));
		if (declined !== undefined) {
			this.#declinedUntold.push(declined);
			return;
		}
		if (this.#answered.has(taskOf(verdict) ?? '')) {
			// Twice in one batch, or two attempts of one task: the journal must know the first to judge the second.
			this.#write();
			verdict = this.#verify(offer);
		}
		if (verdict.kind === 'ok') this.#accept(verdict, correlationId);
		else if (verdict.kind === 'refused') this.#refuseVerdict(verdict, correlationId);
		else attemptLog(this.#deps.log, verdict.claimed, correlationId).debug('an offer came again');
	}

	/** What came before this batch and is known. */
	#verify(offer: TaskOffer): EnvelopeVerdict {
		const { identity, journal, clock } = this.#deps;
		return verifyEnvelope(offer.envelope, {
			nodeId: identity.nodeId,
			generation: identity.generation,
			trustDomain: identity.trustDomain,
			taskSigners: identity.bundle().taskSigners,
			nowMs: clock.now(),
			journal,
		});
	}

	#write(): void {
		const answers = this.#answers;
		if (answers.length === 0) return;
		this.#answers = [];
		this.#answered.clear();
		const { journal } = this.#deps;
		try {
			journal.transaction(() => {
				for (const { row } of answers) if (row !== undefined) journal.putAttempt(row);
				journal.appendFacts(answers.map(({ fact }) => fact));
			});
		} catch (error) {
			if (!isUnwritable(error)) throw error;
			for (const answer of answers) this.#unwritten(answer, error);
			return;
		}
		for (const { attempt } of answers) {
			if (attempt === undefined) continue;
			attempt.log.debug('accepted a task');
			this.#accepted.push(attempt);
		}
	}

	#unwritten({ declined, row, fact }: Answer, error: GpuaasError): void {
		const { journal } = this.#deps;
		if (declined === undefined) {
			this.#later(() => {
				const kept = row && journal.getAttempt(row.taskId, row.attempt);
				if (kept?.phase === 'finished' || kept?.phase === 'done') return;
				if (row !== undefined) journal.putAttempt(row);
				journal.appendFacts([fact]);
			});
			return;
		}
		this.#floods.error('a task was declined: the journal can not be written', { task: declined.taskId, error });
		this.#declinedUntold.push(declined);
		this.#declined.set(`${declined.taskId}/${declined.attempt}`, declined);
		for (const oldest of this.#declined.keys()) {
			if (this.#declined.size <= DECLINED_MAX) break;
			this.#declined.delete(oldest);
		}
	}

	#answer(answer: Answer): void {
		this.#answers.push(answer);
		if (answer.row !== undefined) this.#answered.add(answer.row.taskId);
	}

	/** An attempt that won't be launched. */
	refuse(row: AttemptRow, correlationId: string, refusal: Refusal, name: AttemptName = row): void {
		const { clock, log, journal } = this.#deps;
		const { taskId, attempt, fencingToken } = name;
		this.#answer({
			row: { ...row, envelope: new Uint8Array(), phase: 'finished', outputStored: true },
			fact: refusedFact({ nowMs: clock.now(), correlationId }, name, refusal),
			// One that the journal has was accepted: its end must not be lost.
			...(journal.getAttempt(row.taskId, row.attempt) === undefined && {
				declined: { taskId, attempt, fencingToken, ...refusal },
			}),
		});
		attemptLog(log, row, correlationId).info('refused a task', { reason: refusal.reason });
	}

	/**
	 * A cancel overtook its offer, or the offer never came: if it still comes, it is refused. One that a journal before
	 * this one may have seen isn't answered: its offer is sent again before it, with each session.
	 */
	refuseUnseen(cancel: TaskCancel, correlationId: string): void {
		const { taskId, attempt, fencingToken } = cancel;
		if (this.#isBeforeJournal(fencingToken)) return;
		this.refuse(this.#rowOf({ taskId, attempt, fencingToken }), correlationId, CANCELLED);
	}

	/**
	 * The first Welcome of this journal's life says which tokens were given out before it. What was claimed under them
	 * may have run under a journal that is gone, and been forgotten by everybody: it is never run, and called lost.
	 */
	setFloor(fencingSeq: bigint): void {
		const { journal } = this.#deps;
		if (this.#floor === undefined) journal.putSetting(FLOOR, `${fencingSeq}`);
		this.#floor ??= fencingSeq;
	}

	#isBeforeJournal(fencingToken: bigint): boolean {
		return this.#floor === undefined || fencingToken <= this.#floor;
	}

	/** What the policy says now about an attempt that was accepted before this process started. */
	restore(row: AttemptRow): Attempt {
		const envelope = fromBinary(TaskEnvelopeSchema, row.envelope);
		const attempt = new Attempt(row, envelope, this.#decide(envelope), this.#deps.log);
		const kind = envelope.spec?.kind.case;
		attempt.special = kind === 'reboot' ? kind : kind === 'injectFault' ? 'inject_fault' : undefined;
		if (row.cancelReason !== '') attempt.cancelGraceMs = this.#deps.limits.timeoutGraceMs;
		return attempt;
	}

	#accept(verdict: Extract<EnvelopeVerdict, { readonly kind: 'ok' }>, correlationId: string): void {
		const { envelope, payload, payloadSha256 } = verdict;
		const row = { ...this.#rowOf(envelope), envelope: payload, envelopeSha256: payloadSha256 };
		if (this.#isBeforeJournal(row.fencingToken)) {
			this.#lose(row, envelope.correlationId);
			return;
		}
		const decision = this.#decide(envelope);
		const refusal = this.#noRoom(row) ?? this.#refusalOf(decision);
		if (refusal !== undefined) {
			this.refuse(row, correlationId, refusal);
			return;
		}
		const fact = acceptedFact({ nowMs: this.#deps.clock.now(), correlationId }, row);
		const { taskId, attempt, fencingToken } = row;
		const declined = { taskId, attempt, fencingToken, ...UNWRITABLE };
		this.#answer({ row, fact, attempt: new Attempt(row, envelope, decision, this.#deps.log), declined });
	}

	/** Nobody can say whether it ran. */
	#lose(row: AttemptRow, correlationId: string): void {
		const { clock, identity, platform, log } = this.#deps;
		attemptLog(log, row, correlationId).warn('a task was offered to a journal before this one: it is lost');
		const nowMs = clock.now();
		const message =
			"the agent's journal was lost after the task was sent to it: it may have run, and nothing of it was kept";
		const outcome = outcomeWithoutHost({ result: Result.LOST, reason: 'JOURNAL_LOST', message, endedAtMs: nowMs });
		const signatory = { identity, agentVersion: platform.agentVersion, bootId: platform.bootId };
		this.#answer({
			row: { ...row, phase: 'finished', outputStored: true },
			fact: finishedFact({ nowMs, correlationId }, row, { outcome, output: [] }, signatory),
		});
	}

	#noRoom(row: AttemptRow): Refusal | undefined {
		const { bytes, bytesMax } = this.#deps.journal.usage();
		if (bytes + this.#waitingBytes() + row.envelope.length > bytesMax) {
			const message =
				"the agent's journal is full of what the control plane has not acknowledged, so it takes no new task; nothing was started";
			return { reason: 'JOURNAL_FULL', message, retryable: true };
		}
		const { attemptsMax } = this.#deps.limits;
		if (this.#openCount() + this.#answers.length < attemptsMax) return undefined;
		const message = `the node has ${attemptsMax} tasks that have not ended, which is its limit; nothing was started`;
		return { reason: 'TOO_MANY_TASKS', message, retryable: true };
	}

	#waitingBytes(): number {
		return this.#answers.reduce((sum, { row }) => sum + (row?.envelope.length ?? 0), 0);
	}

	#refusalOf(decision: Decision): Refusal | undefined {
		if (decision.kind === 'refuse') {
			const { reason, message } = decision;
			return { reason, message, retryable: false };
		}
		const why = decision.permit.kind === 'reboot' ? this.#deps.platform.rebooter.refusal : undefined;
		return why === undefined ? undefined : { reason: 'REBOOT_NOT_ALLOWED', message: why, retryable: false };
	}

	#refuseVerdict(verdict: Extract<EnvelopeVerdict, { readonly kind: 'refused' }>, correlationId: string): void {
		const { claimed, reason, message } = verdict;
		const { log, clock } = this.#deps;
		const lines = claimed === undefined ? log : attemptLog(log, claimed, correlationId);
		lines.warn('refused an envelope', { reason, detail: message });
		// A forgery that names an attempt which is under way must not end it.
		if (claimed === undefined || this.#deps.journal.getAttempt(claimed.taskId, claimed.attempt) !== undefined) {
			const context = { nowMs: clock.now(), correlationId };
			this.#answer({ fact: auditFact(context, 'envelope.refuse', `${reason}: ${message}`) });
			return;
		}
		const refusal = { reason, message: `${message}; nothing was started`, retryable: reason === 'ENVELOPE_STALE' };
		this.refuse(this.#rowOf(this.#believable(claimed, reason)), correlationId, refusal, claimed);
	}

	/** What an envelope merely claims must outbid no true attempt, neither by its token nor by its number: 0 is no token. */
	#believable(claimed: Claimed, reason: string): AttemptName {
		const isProven = reason !== 'ENVELOPE_SIGNATURE' && reason !== 'ENVELOPE_MALFORMED';
		return isProven ? claimed : { ...claimed, fencingToken: 0n };
	}

	#rowOf({ taskId, attempt, fencingToken }: AttemptName): AttemptRow {
		return {
			taskId,
			attempt,
			fencingToken,
			phase: 'accepted',
			envelope: new Uint8Array(),
			envelopeSha256: new Uint8Array(),
			acceptedAtMs: this.#deps.clock.now(),
			bootId: this.#deps.platform.bootId,
			cancelReason: '',
			outputStored: false,
		};
	}

	#decide({ spec, timeout, outputBytesMax }: TaskEnvelope): Decision {
		assert(spec !== undefined, 'an accepted envelope has a spec');
		const timeoutMs = timeout === undefined ? undefined : durationMs(timeout);
		const request = { spec, timeoutMs, outputBytesMax: Number(outputBytesMax) };
		return decide(this.#deps.policy, request, this.#deps.platform);
	}
}

function attemptOf(verdict: EnvelopeVerdict): string {
	const { taskId, attempt } =
		verdict.kind === 'ok' ? verdict.envelope : (verdict.claimed ?? { taskId: '', attempt: 0 });
	return `${taskId}/${attempt}`;
}

function taskOf(verdict: EnvelopeVerdict): string | undefined {
	return verdict.kind === 'ok' ? verdict.envelope.taskId : verdict.claimed?.taskId;
}

/** More than a node has open tasks: which copy of an older offer could still come? */
const DECLINED_MAX = 10_000;

const UNWRITABLE: Refusal = Object.freeze({
	reason: 'DISK_FULL',
	message:
		"the agent's journal can't be written, so it takes no new task; nothing was started. Free space on the disk of its data folder, or repair it",
	retryable: true,
});

const FLOOR = 'tasks.fencing_floor';
