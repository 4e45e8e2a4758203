import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { fromBinary, fromJsonString } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../kit/error.ts';
import { type DsseEnvelope, verifyDsse } from '../pki/verify/dsse.ts';
import { VerifyKey } from '../pki/verify/signature.ts';
import { payloadSha256, TASK_CLOSING_TYPE, TASK_ENVELOPE_TYPE, verifyTaskReceipt } from '../pki/verify/task.ts';
import {
	TaskClosingSchema,
	type TaskEnvelope,
	TaskEnvelopeSchema,
	type TaskReceipt,
	TaskReceiptSchema,
	TaskResult,
} from '../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import {
	type GetTaskReceiptResponse,
	GetTaskReceiptResponseSchema,
	TaskState,
} from '../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { enumName } from './show.ts';

/**
 * Checks a task's documents with nothing but themselves and the roots: the signer's chain, the envelope's signature, the
 * node's chain, the receipt's signature, and that the receipt answers exactly this envelope. The first thing that is
 * wrong ends it; `findings` say what was proven until then.
 */
export interface ReceiptCheck {
	readonly ok: boolean;
	readonly findings: readonly string[];
}

const FILE_BYTES_MAX = 16 * 1024 * 1024;

/** The saved documents (binary, or the JSON form), or undefined when there is no such file. */
export async function readReceiptFile(path: string): Promise<GetTaskReceiptResponse | undefined> {
	const found = await stat(path).catch(() => undefined);
	if (found?.isFile() !== true) return undefined;
	if (found.size > FILE_BYTES_MAX) throw notAReceipt(path);
	const bytes = await readFile(path);
	try {
		return bytes[0] === 0x7b
			? fromJsonString(GetTaskReceiptResponseSchema, bytes.toString('utf8'))
			: fromBinary(GetTaskReceiptResponseSchema, bytes);
	} catch {
		throw notAReceipt(path);
	}
}

function notAReceipt(path: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'RECEIPT_INVALID',
		message: `${path} is not a receipt; save one with: gpuaas task receipt ID > FILE`,
	});
}

class Refused extends Error {}

export function verifyReceipt(documents: GetTaskReceiptResponse, rootsPem: string): ReceiptCheck {
	const findings: string[] = [];
	try {
		const roots = parseRoots(rootsPem);
		const envelope = checkEnvelope(documents, roots, findings);
		if (documents.receipt !== undefined) checkReceipt(documents, envelope, roots, findings);
		else if (documents.closing !== undefined) checkClosing(documents, roots, findings);
		else throw new Refused('there is neither a receipt nor a closing: the task has not ended');
		return { ok: true, findings };
	} catch (error) {
		if (!(error instanceof Refused)) throw error;
		return { ok: false, findings: [...findings, error.message] };
	}
}

function parseRoots(pem: string): readonly X509Certificate[] {
	const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
	if (blocks.length === 0) throw new Refused('no root certificate was given');
	return blocks.map((block) => new X509Certificate(block));
}

/** Leaf first; each signed by the next, the last one by a root. */
function checkChain(
	name: string,
	chain: readonly Uint8Array[],
	roots: readonly X509Certificate[],
): readonly X509Certificate[] {
	const certificates: X509Certificate[] = [];
	for (const der of chain) {
		try {
			certificates.push(new X509Certificate(der));
		} catch {
			throw new Refused(`the ${name} chain can't be read`);
		}
	}
	if (certificates.length === 0) throw new Refused(`the ${name} chain is missing`);
	certificates.forEach((certificate, index) => {
		const next = certificates[index + 1];
		const issuers = next === undefined ? roots : [next];
		const signed = issuers.some(
			(issuer) => issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey),
		);
		const isRoot = roots.some((root) => root.raw.equals(certificate.raw));
		if (!signed && !isRoot) throw new Refused(`the ${name} certificate does not lead to a trusted root`);
	});
	return certificates;
}

function dsseOf(envelope: NonNullable<GetTaskReceiptResponse['envelope']>): DsseEnvelope {
	return { payloadType: envelope.payloadType, payload: envelope.payload, signatures: envelope.signatures };
}

/** SPIFFE URI of the certificate; the path says what it may sign. */
function uriOf(certificate: X509Certificate): string {
	return /URI:([^,]+)/.exec(certificate.subjectAltName ?? '')?.[1] ?? '';
}

function keyOf(certificate: X509Certificate | undefined): VerifyKey {
	const key =
		certificate && VerifyKey.parse(new Uint8Array(certificate.publicKey.export({ format: 'der', type: 'spki' })));
	if (key === undefined) throw new Refused('the key of a certificate is of a kind that is not used here');
	return key;
}

function bySigner(
	documents: GetTaskReceiptResponse,
	document: NonNullable<GetTaskReceiptResponse['envelope']>,
	payloadType: string,
	roots: readonly X509Certificate[],
): Uint8Array {
	const [signer] = checkChain('task-signing', documents.signerChain, roots);
	if (signer === undefined || !uriOf(signer).includes('/task-signer/')) {
		throw new Refused('the signer of the envelope is not a task signer');
	}
	const verified = verifyDsse(dsseOf(document), { payloadType, keys: [keyOf(signer)] });
	if (verified.kind === 'refused') throw new Refused(`the signature of the control plane: ${verified.message}`);
	return verified.payload;
}

function checkEnvelope(
	documents: GetTaskReceiptResponse,
	roots: readonly X509Certificate[],
	findings: string[],
): TaskEnvelope | undefined {
	if (documents.envelope === undefined) return undefined;
	const payload = bySigner(documents, documents.envelope, TASK_ENVELOPE_TYPE, roots);
	const envelope = fromBinary(TaskEnvelopeSchema, payload);
	findings.push(
		`the control plane signed task ${envelope.taskId}, attempt ${envelope.attempt}, for node ${envelope.nodeId}`,
	);
	return envelope;
}

function checkReceipt(
	documents: GetTaskReceiptResponse,
	envelope: TaskEnvelope | undefined,
	roots: readonly X509Certificate[],
	findings: string[],
): void {
	const { receipt, envelope: signed } = documents;
	if (receipt === undefined || signed === undefined || envelope === undefined)
		throw new Refused('a receipt without its envelope proves nothing');
	const [leaf, ...issuers] = checkChain('node', documents.nodeChain, roots);
	const verified = verifyTaskReceipt(dsseOf(receipt), {
		nodeCertificateDer: leaf === undefined ? new Uint8Array() : new Uint8Array(leaf.raw),
		nodeCaSpkis: issuers.map((issuer) => new Uint8Array(issuer.publicKey.export({ format: 'der', type: 'spki' }))),
		trustDomain: new URL(leaf === undefined ? 'spiffe://none' : uriOf(leaf)).hostname,
	});
	if (verified.kind === 'refused') throw new Refused(`the signature of the node: ${verified.message}`);
	const document = fromBinary(TaskReceiptSchema, verified.payload);
	compare(document, envelope, verified.nodeId, payloadSha256(dsseOf(signed)));
	const outcome = document.outcome;
	const at = outcome?.startedAt === undefined ? undefined : timestampMs(outcome.startedAt);
	if (at !== undefined && (at < verified.certificate.notBeforeMs || at > verified.certificate.notAfterMs)) {
		findings.push("by the node's own clock the task started outside its certificate's validity");
	}
	const code = outcome?.exitCode === undefined ? '' : `, exit code ${outcome.exitCode}`;
	findings.push(
		`node ${document.nodeId} signed the result of exactly that envelope: ${enumName(TaskResult, outcome?.result ?? 0)}${code}`,
	);
}

function compare(receipt: TaskReceipt, envelope: TaskEnvelope, nodeId: string, envelopeSha256: Uint8Array): void {
	if (receipt.nodeId !== nodeId) throw new Refused('the receipt names another node than its certificate');
	if (!Buffer.from(receipt.envelopeSha256).equals(envelopeSha256))
		throw new Refused('the receipt answers another envelope');
	const same =
		receipt.taskId === envelope.taskId &&
		receipt.attempt === envelope.attempt &&
		receipt.nodeId === envelope.nodeId &&
		receipt.generation === envelope.generation &&
		receipt.fencingToken === envelope.fencingToken;
	if (!same) throw new Refused('receipt and envelope disagree about task, attempt, node, generation or fencing token');
}

function checkClosing(documents: GetTaskReceiptResponse, roots: readonly X509Certificate[], findings: string[]): void {
	if (documents.closing === undefined) return;
	const closing = fromBinary(TaskClosingSchema, bySigner(documents, documents.closing, TASK_CLOSING_TYPE, roots));
	findings.push(
		`the control plane closed task ${closing.taskId} as ${enumName(TaskState, closing.state)} (${closing.reason}); no node signed a result`,
	);
}
