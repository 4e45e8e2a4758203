import { fromBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { CertificateKeys } from '../../../pki/trust/certificate-keys.ts';
import type { DsseEnvelope, DsseExpectation, DsseResult } from '../../../pki/verify/dsse.ts';
import { sha256 } from '../../../pki/verify/signature.ts';
import { TASK_RECEIPT_TYPE } from '../../../pki/verify/task.ts';
import { outputSha256OfChunks } from '../../../pki/verify/task-output.ts';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import type { Fact, TaskFinished } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type TaskOutcome, TaskReceiptSchema } from '../../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { OutputStream } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';

/**
 * Whether a receipt may end its task: signed by a certificate that we issued to this node and haven't revoked (one
 * that was superseded since counts, because an agent renews while tasks run), about the attempt that it names, and
 * linked by hash to the envelope that we signed.
 */
export type ReceiptVerdict =
	| { readonly kind: 'ok'; readonly outcome: TaskOutcome }
	| { readonly kind: 'invalid'; readonly message: string };

export interface ReceiptEvidence {
	readonly nodeId: string;
	/** As the store has it for the serial that the fact names. */
	readonly certificate: CertificateRow | undefined;
	/** Binary common.v1.DsseEnvelope of the attempt, as it was stored before it was sent. */
	readonly envelope: Uint8Array | null | undefined;
}

/** A node's certificate comes with each of its receipts. */
const nodeKeys = new CertificateKeys(4096);

export function serialOf(finished: TaskFinished): string {
	return nodeKeys.get(finished.certificate)?.certificate.serialHex ?? '';
}

/** verifyDsse, or verifyDsseOnThread where many receipts come at once and order is not that of a simulation. */
export type VerifySignatures = (envelope: DsseEnvelope, expected: DsseExpectation) => DsseResult | Promise<DsseResult>;

/** Certificates are backdated by less, and clocks of hosts drift. */
const CLOCK_SKEW_MS = 5 * 60_000;

export async function verifyReceipt(
	fact: Fact,
	finished: TaskFinished,
	evidence: ReceiptEvidence,
	verify: VerifySignatures,
): Promise<ReceiptVerdict> {
	const certificateFault = faultOfCertificate(fact, finished, evidence);
	if (certificateFault !== undefined) return invalid(certificateFault);
	const key = nodeKeys.get(finished.certificate)?.key;
	const receipt: DsseEnvelope = finished.receipt ?? { payloadType: '', payload: new Uint8Array(), signatures: [] };
	const verified = await verify(receipt, { payloadType: TASK_RECEIPT_TYPE, keys: key === undefined ? [] : [key] });
	if (verified.kind === 'refused') return invalid(verified.message);
	return judge(verified.payload, finished, evidence);
}

function judge(payload: Uint8Array, finished: TaskFinished, evidence: ReceiptEvidence): ReceiptVerdict {
	if (!evidence.envelope) return invalid('it answers an envelope that was never signed here');
	let receipt: ReturnType<typeof decodeReceipt>;
	try {
		receipt = decodeReceipt(payload);
	} catch {
		return invalid("its content can't be read");
	}
	const { outcome } = receipt;
	const isAboutThis =
		receipt.taskId === finished.taskId &&
		receipt.attempt === finished.attempt &&
		receipt.fencingToken === finished.fencingToken &&
		receipt.nodeId === evidence.nodeId;
	if (!isAboutThis || outcome === undefined) return invalid('it is about another task, attempt or node');
	const ordered = sha256(fromBinary(DsseEnvelopeSchema, evidence.envelope).payload);
	if (Buffer.compare(ordered, receipt.envelopeSha256) !== 0)
		return invalid('it is linked to another envelope than the one that was signed');
	if (finished.outputInline) {
		const digest = outputSha256OfChunks(
			finished.output.map(({ stream, data }) => ({
				stream: stream === OutputStream.STDERR ? ('stderr' as const) : ('stdout' as const),
				data,
			})),
		);
		if (Buffer.compare(digest, outcome.outputSha256) !== 0) return invalid('its output is not what was signed');
	}
	return { kind: 'ok', outcome };
}

function decodeReceipt(payload: Uint8Array) {
	return fromBinary(TaskReceiptSchema, payload);
}

function faultOfCertificate(fact: Fact, finished: TaskFinished, evidence: ReceiptEvidence): string | undefined {
	const { certificate, nodeId } = evidence;
	if (certificate === undefined || Buffer.compare(certificate.der, finished.certificate) !== 0)
		return 'it names a certificate that was not issued here';
	if (certificate.kind !== 'node' || certificate.subjectId !== nodeId)
		return 'it is signed with the certificate of another node';
	if (certificate.state === 'revoked') return 'it is signed with a revoked certificate';
	const signedAtMs = fact.at === undefined ? undefined : timestampMs(fact.at);
	const isInTime =
		signedAtMs !== undefined &&
		signedAtMs >= certificate.notBeforeMs - CLOCK_SKEW_MS &&
		signedAtMs <= certificate.notAfterMs + CLOCK_SKEW_MS;
	return isInTime ? undefined : 'it was signed outside the life of its certificate';
}

function invalid(message: string): ReceiptVerdict {
	return {
		kind: 'invalid',
		message: `the receipt of the agent is not valid: ${message}; how the task ended is not known`,
	};
}
