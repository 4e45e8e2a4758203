import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { GpuaasError } from '../../kit/error.ts';
import { type Fact, FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { AttemptRow } from './journal.ts';

/** What both journals share: limits, how a fact is kept, and how the bytes in use are counted. */
export interface JournalLimits {
	/** Past it no new task is taken. Default 256 MiB. */
	readonly bytesMax: number;
	/**
	 * How long (task, attempt, fencing token) outlives a pruned attempt. Must exceed the longest life of an envelope
	 * that the agent accepts: an older one is refused as stale anyway. Default 12 h.
	 */
	readonly replayKeepMs: number;
	/**
	 * One-time grants that are kept at once. Default 131,072: kept for an hour each, one organization alone may open 18 a
	 * second for as long as it likes, and one person alone 12.
	 */
	readonly grantsMax: number;
}

export const JOURNAL_LIMITS_DEFAULT: JournalLimits = Object.freeze({
	bytesMax: 256 * 1024 * 1024,
	replayKeepMs: 12 * 3_600_000,
	grantsMax: 131_072,
});

/**
 * Nobody keeps more than is left for all others: one holder gets half at most, two a third each, and the next always
 * finds room. Shares even out as grants expire.
 */
export function isWithinShare(held: number, kept: number, grantsMax: number): boolean {
	return held < grantsMax - kept;
}

/** The same among the people of one holder, of what is left to the holder. */
export function isWithinOwnShare(
	own: number,
	{ held, kept }: { readonly held: number; readonly kept: number },
	grantsMax: number,
): boolean {
	return own < grantsMax - kept - held;
}

export function shareIsUsed(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'JOURNAL_FULL',
		message:
			'so many terminals, commands, copies and forwards were opened here within an hour that the share of your organization of this node is used up; try again later',
	});
}

export function ownShareIsUsed(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'JOURNAL_FULL',
		message:
			'you opened so many terminals, commands, copies and forwards here within an hour that your own share of this node is used up; open fewer (one terminal runs many commands), or try again later',
	});
}

/** Keys, indexes and page overhead of a row, roughly: what makes a million tiny rows count. */
const ROW_BYTES = 160;

export function attemptBytes(row: Pick<AttemptRow, 'envelope'>): number {
	return ROW_BYTES + row.envelope.length;
}

export function factBytes(encoded: Uint8Array): number {
	return ROW_BYTES + encoded.length;
}

export const REPLAY_BYTES = ROW_BYTES;

/** The row's `seq` is the truth: renumbering changes it and leaves the bytes alone. */
export function encodeFact(fact: Fact): Uint8Array {
	return toBinary(FactSchema, fact);
}

export function decodeFact(seq: bigint, encoded: Uint8Array): Fact {
	const fact = fromBinary(FactSchema, encoded);
	fact.seq = seq;
	return fact;
}

/** The attempt that a fact ends, if it ends one. */
export function endedBy(fact: Fact): { readonly taskId: string; readonly attempt: number } | undefined {
	const { fact: inner } = fact;
	return inner.case === 'taskFinished' || inner.case === 'taskRefused' ? inner.value : undefined;
}

/** All that is left of an attempt after it was pruned: enough to refuse it for ever. */
export function replayRow(taskId: string, attempt: number, fencingToken: bigint, acceptedAtMs: number): AttemptRow {
	return {
		taskId,
		attempt,
		fencingToken,
		phase: 'done',
		envelope: new Uint8Array(),
		envelopeSha256: new Uint8Array(),
		acceptedAtMs,
		bootId: '',
		cancelReason: '',
		outputStored: true,
	};
}

/** What was to be recorded was not, and may be once somebody has looked at the disk. */
export function isUnwritable(error: unknown): error is GpuaasError {
	return error instanceof GpuaasError && (error.reason === 'DISK_FULL' || error.reason === 'STORE_UNAVAILABLE');
}

export function journalFailure(kind: 'FULL' | 'IOERR', cause?: unknown): GpuaasError {
	const full = kind === 'FULL';
	return new GpuaasError({
		code: full ? 'RESOURCE_EXHAUSTED' : 'UNAVAILABLE',
		reason: full ? 'DISK_FULL' : 'STORE_UNAVAILABLE',
		message: full
			? "the disk of the agent's journal is full: nothing was recorded and nothing was started; free space there"
			: "the agent's journal can't be written: nothing was recorded and nothing was started; check the disk",
		cause,
	});
}
