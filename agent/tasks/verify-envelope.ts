import { fromBinary } from '@bufbuild/protobuf';
import { durationMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { createValidator } from '@bufbuild/protovalidate';
import { isUuid } from '../../kit/ids.ts';
import { CertificateKeys } from '../../pki/trust/certificate-keys.ts';
import { judge } from '../../pki/trust/identity.ts';
import { type DsseEnvelope, verifyDsse } from '../../pki/verify/dsse.ts';
import { sha256, type VerifyKey } from '../../pki/verify/signature.ts';
import { TASK_ENVELOPE_TYPE } from '../../pki/verify/task.ts';
import { type TaskEnvelope, TaskEnvelopeSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { AttemptRow } from '../journal/journal.ts';

/**
 * Whether an order is one: signed by a task signer that the trust bundle names, for this node and its present image,
 * fresh, never seen, above the last fencing token of its task, and inside the contract's limits. Pure but for the
 * journal's memory; nothing after the signature is looked at before it holds, but the ids that a refusal must name.
 */
export type EnvelopeRefusal =
	| 'ENVELOPE_SIGNATURE'
	| 'ENVELOPE_MALFORMED'
	| 'ENVELOPE_ADDRESSEE'
	| 'ENVELOPE_GENERATION'
	| 'ENVELOPE_STALE'
	| 'ENVELOPE_REPLAYED';

/** What an envelope says it is: proven only where the verdict is `ok`. */
export interface Claimed {
	readonly taskId: string;
	readonly attempt: number;
	readonly fencingToken: bigint;
	readonly correlationId: string;
}

export type EnvelopeVerdict =
	| {
			readonly kind: 'ok';
			readonly envelope: TaskEnvelope;
			readonly payload: Uint8Array;
			readonly payloadSha256: Uint8Array;
	  }
	/** Came before: whatever it had to do was done or is under way. */
	| { readonly kind: 'duplicate'; readonly claimed: Claimed; readonly row: AttemptRow }
	| {
			readonly kind: 'refused';
			readonly reason: EnvelopeRefusal;
			readonly message: string;
			readonly claimed: Claimed | undefined;
	  };

export interface EnvelopeExpectation {
	readonly nodeId: string;
	readonly generation: number;
	readonly trustDomain: string;
	/** DER, from the newest trust bundle: being listed there is what makes a signer accepted. */
	readonly taskSigners: readonly Uint8Array[];
	readonly nowMs: number;
	readonly journal: {
		getAttempt(taskId: string, attempt: number): AttemptRow | undefined;
		latestAttempt(taskId: string): AttemptRow | undefined;
	};
}

/** Clocks of hosts drift; an hour of life against five minutes of doubt. */
export const CLOCK_SKEW_MS = 5 * 60_000;
/** An envelope that lives longer isn't taken: the journal remembers attempts for 12 h (journal/rows.ts). */
export const ENVELOPE_LIFE_MAX_MS = 6 * 3_600_000;
/** Fencing tokens are counted in signed 64-bit integers, here and in the control plane. */
const FENCING_TOKEN_MAX = 2n ** 62n;

const validator = createValidator();

export function verifyEnvelope(dsse: DsseEnvelope | undefined, expected: EnvelopeExpectation): EnvelopeVerdict {
	if (dsse === undefined) return refuse('ENVELOPE_MALFORMED', 'the offer holds no envelope', undefined);
	const decoded = decode(dsse.payload);
	const claimed = decoded && claimOf(decoded);
	const keys = signerKeys(expected);
	const verified = verifyDsse(dsse, { payloadType: TASK_ENVELOPE_TYPE, keys });
	if (verified.kind === 'refused') {
		const hint =
			keys.length === 0 ? ' (the trust bundle names no task signer that is valid now; compare the clocks)' : '';
		return refuse('ENVELOPE_SIGNATURE', `${verified.message}${hint}`, claimed);
	}
	if (decoded === undefined || claimed === undefined)
		return refuse(
			'ENVELOPE_MALFORMED',
			"the envelope's content can't be read: another version, or text that is not UTF-8",
			undefined,
		);
	const known = expected.journal.getAttempt(claimed.taskId, claimed.attempt);
	if (known !== undefined) return { kind: 'duplicate', claimed, row: known };
	return (
		contentFault(decoded, claimed, expected) ?? {
			kind: 'ok',
			envelope: decoded,
			payload: verified.payload,
			payloadSha256: sha256(verified.payload),
		}
	);
}

function contentFault(
	envelope: TaskEnvelope,
	claimed: Claimed,
	expected: EnvelopeExpectation,
): EnvelopeVerdict | undefined {
	if (envelope.nodeId !== expected.nodeId)
		return refuse('ENVELOPE_ADDRESSEE', `the envelope is for node ${envelope.nodeId}`, claimed);
	if (envelope.generation !== expected.generation) {
		const message = `the envelope is for image generation ${envelope.generation} of this node, which runs ${expected.generation}`;
		return refuse('ENVELOPE_GENERATION', message, claimed);
	}
	const invalid = validator.validate(TaskEnvelopeSchema, envelope);
	if (invalid.kind !== 'valid')
		return refuse(
			'ENVELOPE_MALFORMED',
			`the envelope breaks the contract: ${invalid.error?.message ?? 'no reason'}`,
			claimed,
		);
	const malformed = executionFault(envelope);
	if (malformed !== undefined) return refuse('ENVELOPE_MALFORMED', malformed, claimed);
	const stale = freshnessFault(envelope, expected.nowMs);
	if (stale !== undefined) return refuse('ENVELOPE_STALE', stale, claimed);
	const latest = expected.journal.latestAttempt(envelope.taskId);
	if (latest === undefined) return undefined;
	if (envelope.attempt > latest.attempt && envelope.fencingToken > latest.fencingToken) return undefined;
	const message = `attempt ${envelope.attempt} (token ${envelope.fencingToken}) comes after attempt ${latest.attempt} (token ${latest.fencingToken})`;
	return refuse('ENVELOPE_REPLAYED', message, claimed);
}

/** What protovalidate has no rule for and an exec would get wrong silently. */
function executionFault({ spec, timeout, fencingToken }: TaskEnvelope): string | undefined {
	if (fencingToken > FENCING_TOKEN_MAX) return 'the fencing token is larger than any that is given out';
	if (timeout !== undefined && durationMs(timeout) < 1) return 'the timeout is not positive';
	if (spec?.kind.case !== 'run') return undefined;
	const { argv, cwd, env } = spec.kind.value;
	const texts = [...argv, cwd, ...Object.keys(env), ...Object.values(env)];
	return texts.some((text) => text.includes('\0')) ? 'an argument, folder or variable holds a NUL byte' : undefined;
}

/** Of anything that is signed for a while. */
export function freshnessFault(
	{ notBefore, notAfter }: Pick<TaskEnvelope, 'notBefore' | 'notAfter'>,
	nowMs: number,
): string | undefined {
	if (notBefore === undefined || notAfter === undefined) return 'the envelope has no validity';
	const fromMs = timestampMs(notBefore);
	const untilMs = timestampMs(notAfter);
	if (untilMs - fromMs > ENVELOPE_LIFE_MAX_MS) return 'the envelope is valid for longer than an envelope may be';
	const offS = (ms: number) => Math.ceil(ms / 1000);
	if (nowMs + CLOCK_SKEW_MS < fromMs)
		return `the envelope is valid only in ${offS(fromMs - nowMs)} s; compare this host's clock with the control plane's`;
	if (nowMs - CLOCK_SKEW_MS > untilMs)
		return `the envelope expired ${offS(nowMs - untilMs)} s ago; the node was away too long, or its clock is wrong`;
	return undefined;
}

/** A bundle names the present signer and, while it is replaced, the next. */
const signers = new CertificateKeys(16);

/** The keys of the signers that the trust bundle names and that are valid now. */
export function signerKeys({
	taskSigners,
	trustDomain,
	nowMs,
}: Pick<EnvelopeExpectation, 'taskSigners' | 'trustDomain' | 'nowMs'>): readonly VerifyKey[] {
	return taskSigners.flatMap((der) => {
		const signer = signers.get(der);
		if (signer?.key === undefined) return [];
		const identity = judge(signer.certificate, {
			trustDomain,
			// The bundle is signed and lists the certificate itself, so whoever issued it is accepted with it.
			acceptedIssuerKeyIds: new Set([signer.certificate.issuerKeyIdHex]),
			expect: 'task-signer',
			nowMs,
			clockSkewMs: CLOCK_SKEW_MS,
		});
		return identity.kind === 'ok' ? [signer.key] : [];
	});
}

function decode(payload: Uint8Array): TaskEnvelope | undefined {
	try {
		return fromBinary(TaskEnvelopeSchema, payload);
	} catch {
		return undefined;
	}
}

function claimOf({ taskId, attempt, fencingToken, correlationId }: TaskEnvelope): Claimed | undefined {
	return isUuid(taskId) && attempt > 0 ? { taskId, attempt, fencingToken, correlationId } : undefined;
}

function refuse(reason: EnvelopeRefusal, message: string, claimed: Claimed | undefined): EnvelopeVerdict {
	return { kind: 'refused', reason, message, claimed };
}
