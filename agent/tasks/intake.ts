import { fromBinary } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { assert } from '../../kit/assert.ts';
import type { TaskOffer } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type TaskEnvelope, TaskEnvelopeSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { AttemptRow } from '../journal/journal.ts';
import { Attempt } from './attempt.ts';
import { type AttemptName, acceptedFact, auditFact, type Refusal, refusedFact } from './facts.ts';
import { type Decision, decide } from './policy.ts';
import type { RunnerDeps } from './runner-deps.ts';
import { type Claimed, type EnvelopeVerdict, verifyEnvelope } from './verify-envelope.ts';

/**
 * From an offer to an accepted attempt, or to a refusal that stays one: the control plane acts on a refusal, so a
 * second copy of the same offer must not be accepted later, whatever changed meanwhile. Either answer is durable when
 * a method returns. Called by the runner.
 */
export const CANCELLED: Refusal = Object.freeze({
	reason: 'CANCELLED',
	message: 'cancelled before it was started; nothing was started',
	retryable: false,
});

export class Intake {
	readonly #deps: RunnerDeps;
	readonly #openCount: () => number;

	/** `openCount`: attempts accepted and not ended. */
	constructor(deps: RunnerDeps, openCount: () => number) {
		this.#deps = deps;
		this.#openCount = openCount;
	}

	/** The attempt to run; undefined when the offer came before or was refused. */
	take(offer: TaskOffer, correlationId: string): Attempt | undefined {
		const { identity, journal, clock, log } = this.#deps;
		const verdict = verifyEnvelope(offer.envelope, {
			nodeId: identity.nodeId,
			generation: identity.generation,
			trustDomain: identity.trustDomain,
			taskSigners: identity.bundle().taskSigners,
			nowMs: clock.now(),
			journal,
		});
		if (verdict.kind === 'ok') return this.#accept(verdict, correlationId);
		if (verdict.kind === 'duplicate') log.debug('an offer came again', { task: verdict.claimed.taskId });
		else this.#refuseVerdict(verdict, correlationId);
		return undefined;
	}

	/** An accepted attempt that won't be launched. */
	refuse(row: AttemptRow, correlationId: string, refusal: Refusal, name: AttemptName = row): void {
		const { journal, clock, log } = this.#deps;
		journal.transaction(() => {
			journal.putAttempt({ ...row, envelope: new Uint8Array(), phase: 'finished', outputStored: true });
			journal.appendFacts([refusedFact({ nowMs: clock.now(), correlationId }, name, refusal)]);
		});
		log.info('refused a task', { task: row.taskId, attempt: row.attempt, reason: refusal.reason });
	}

	/** A cancel overtook its offer, or the offer never came: if it still comes, it is refused. */
	refuseUnseen(taskId: string, attempt: number, correlationId: string): void {
		this.refuse(this.#rowOf({ taskId, attempt, fencingToken: 0n }), correlationId, CANCELLED);
	}

	/** What the policy says now about an attempt that was accepted before this process started. */
	restore(row: AttemptRow): Attempt {
		const envelope = fromBinary(TaskEnvelopeSchema, row.envelope);
		const attempt = new Attempt(row, envelope.correlationId, this.#decide(envelope));
		attempt.isReboot = envelope.spec?.kind.case === 'reboot';
		if (row.cancelReason !== '') attempt.cancelGraceMs = this.#deps.limits.timeoutGraceMs;
		return attempt;
	}

	#accept(verdict: Extract<EnvelopeVerdict, { readonly kind: 'ok' }>, correlationId: string): Attempt | undefined {
		const { journal, clock } = this.#deps;
		const { envelope, payload, payloadSha256 } = verdict;
		const row = { ...this.#rowOf(envelope), envelope: payload, envelopeSha256: payloadSha256 };
		const decision = this.#decide(envelope);
		const refusal = this.#noRoom(row) ?? this.#refusalOf(decision);
		if (refusal !== undefined) {
			this.refuse(row, correlationId, refusal);
			return undefined;
		}
		journal.transaction(() => {
			journal.putAttempt(row);
			journal.appendFacts([acceptedFact({ nowMs: clock.now(), correlationId }, row)]);
		});
		return new Attempt(row, envelope.correlationId, decision);
	}

	#noRoom(row: AttemptRow): Refusal | undefined {
		const { bytes, bytesMax } = this.#deps.journal.usage();
		if (bytes + row.envelope.length > bytesMax) {
			const message =
				"the agent's journal is full of what the control plane has not acknowledged, so it takes no new task; nothing was started";
			return { reason: 'JOURNAL_FULL', message, retryable: true };
		}
		const { attemptsMax } = this.#deps.limits;
		if (this.#openCount() < attemptsMax) return undefined;
		const message = `the node has ${attemptsMax} tasks that have not ended, which is its limit; nothing was started`;
		return { reason: 'TOO_MANY_TASKS', message, retryable: true };
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
		const { log, journal, clock } = this.#deps;
		log.warn('refused an envelope', { task: claimed?.taskId, reason, detail: message });
		if (claimed === undefined) {
			const context = { nowMs: clock.now(), correlationId };
			journal.appendFacts([auditFact(context, 'envelope.refuse', `${reason}: ${message}`)]);
			return;
		}
		const refusal = { reason, message: `${message}; nothing was started`, retryable: reason === 'ENVELOPE_STALE' };
		this.refuse(this.#rowOf(this.#believable(claimed, reason)), correlationId, refusal, claimed);
	}

	/** What an envelope merely claims must not outbid the true token of a later attempt. */
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
		return decide(this.#deps.policy, request, this.#deps.platform.isExecutable);
	}
}
