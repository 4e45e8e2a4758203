import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { TaskFinished, TaskRefused, TaskStarted } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type TaskOutcome, TaskResult } from '../../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { TaskPatch, TaskRow, TaskState } from '../../store/port/tasks.ts';

/**
 * What a fact of the agent does to a task: pure, and total over every state, because facts come late, twice and about
 * attempts that are over. `undefined` means that the fact changes nothing. States of tasks.proto:
 * leased -> running -> succeeded|failed|cancelled|timed_out|lost, leased -> refused|queued, cancelling -> any end.
 */
export type TaskFact =
	| { readonly kind: 'accepted' }
	| { readonly kind: 'refused'; readonly fact: TaskRefused }
	| { readonly kind: 'started'; readonly fact: TaskStarted; readonly atMs: number }
	/** The receipt was verified; `stored`: its output is in the output store, or there is none. */
	| { readonly kind: 'finished'; readonly outcome: TaskOutcome; readonly stored: boolean }
	| { readonly kind: 'receipt-invalid'; readonly message: string };

export interface AttemptId {
	readonly attempt: number;
	readonly fencingToken: bigint;
}

export function isSameAttempt(row: TaskRow, id: AttemptId): boolean {
	if (row.attempt !== id.attempt) return false;
	// A cancel that arrived before any offer is answered without a token: the agent never saw one.
	const isUnseenCancel = id.fencingToken === 0n && row.cancelRequestedAtMs !== null && row.acceptedAtMs === null;
	return BigInt(row.fencingToken) === id.fencingToken || isUnseenCancel;
}

export function transition(row: TaskRow, fact: TaskFact, nowMs: number): TaskPatch | undefined {
	switch (fact.kind) {
		case 'accepted':
			return isOnTheWay(row) && row.acceptedAtMs === null ? { acceptedAtMs: nowMs } : undefined;
		case 'started':
			return started(row, fact.fact, fact.atMs, nowMs);
		case 'refused':
			return refused(row, fact.fact, nowMs);
		case 'finished':
			return finished(row, fact.outcome, fact.stored, nowMs);
		case 'receipt-invalid':
			return isOnTheWay(row) || row.state === 'running'
				? { state: 'lost', reason: 'RECEIPT_INVALID', message: fact.message, endedAtMs: nowMs, leaseUntilMs: null }
				: undefined;
	}
}

function isOnTheWay(row: TaskRow): boolean {
	return row.state === 'leased' || row.state === 'cancelling';
}

function started(row: TaskRow, fact: TaskStarted, atMs: number, nowMs: number): TaskPatch | undefined {
	if (row.startedAtMs !== null || !(isOnTheWay(row) || row.state === 'lost')) return undefined;
	return {
		startedAtMs: between(row.createdAtMs, atMs, nowMs),
		limitsEnforcedBy: fact.limitsEnforcedBy,
		acceptedAtMs: row.acceptedAtMs ?? nowMs,
		leaseUntilMs: null,
		...(row.state === 'leased' && { state: 'running' as const }),
	};
}

/** Nothing was started: the only outcome after which another attempt may be made. */
function refused(row: TaskRow, fact: TaskRefused, nowMs: number): TaskPatch | undefined {
	if (row.startedAtMs !== null || !(isOnTheWay(row) || row.state === 'lost')) return undefined;
	const { reason, message } = fact;
	const wasCancelled = row.cancelRequestedAtMs !== null && (reason === 'CANCELLED' || fact.retryable);
	const mayTryAgain =
		row.state === 'leased' && fact.retryable && row.attempt < row.attemptsMax && nowMs < row.queueDeadlineMs;
	if (mayTryAgain && row.cancelRequestedAtMs === null) {
		return { state: 'queued', leaseUntilMs: null, acceptedAtMs: null, reason, message };
	}
	return {
		state: wasCancelled ? 'cancelled' : 'refused',
		reason: wasCancelled ? 'CANCELLED' : reason,
		message,
		endedAtMs: nowMs,
		leaseUntilMs: null,
		outputComplete: true,
	};
}

const END: Readonly<Record<TaskResult, TaskState>> = {
	[TaskResult.UNSPECIFIED]: 'lost',
	[TaskResult.SUCCEEDED]: 'succeeded',
	[TaskResult.FAILED]: 'failed',
	[TaskResult.CANCELLED]: 'cancelled',
	[TaskResult.TIMED_OUT]: 'timed_out',
	[TaskResult.LOST]: 'lost',
};

function finished(row: TaskRow, outcome: TaskOutcome, stored: boolean, nowMs: number): TaskPatch | undefined {
	if (!(isOnTheWay(row) || row.state === 'running' || row.state === 'lost')) return undefined;
	const startedAtMs =
		row.startedAtMs ??
		(outcome.startedAt === undefined ? null : between(row.createdAtMs, timestampMs(outcome.startedAt), nowMs));
	const endedAtMs =
		outcome.endedAt === undefined
			? nowMs
			: between(startedAtMs ?? row.createdAtMs, timestampMs(outcome.endedAt), nowMs);
	return {
		state: END[outcome.result] ?? 'lost',
		startedAtMs,
		endedAtMs,
		acceptedAtMs: row.acceptedAtMs ?? nowMs,
		leaseUntilMs: null,
		exitCode: outcome.exitCode ?? null,
		signal: outcome.signal ?? null,
		reason: outcome.reason,
		message: outcome.message,
		outputBytes: Number(outcome.outputBytes),
		outputDroppedBytes: Number(outcome.outputDroppedBytes),
		limitsEnforcedBy: outcome.limitsEnforcedBy || row.limitsEnforcedBy,
		...(stored && { outputComplete: true }),
	};
}

/** The agent's clock is believed only inside what the server knows. */
function between(lowMs: number, atMs: number, highMs: number): number {
	return Math.max(lowMs, Math.min(atMs, highMs));
}

/** Whether all kept output of a finish came with it, or there is none. */
export function bringsItsOutput(finish: TaskFinished, outcome: TaskOutcome): boolean {
	return finish.outputInline || outcome.outputBytes === outcome.outputDroppedBytes;
}
