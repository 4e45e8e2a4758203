import { createHash, createPublicKey, verify, X509Certificate } from 'node:crypto';
import { fromBinary } from '@bufbuild/protobuf';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { TaskClosingSchema, TaskReceiptSchema } from '../../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { History } from '../history.ts';
import type { Image, TaskRecord } from './image.ts';
import { isOpen } from './image-checks.ts';

/** During the run: what began must not begin again. */
export function checkExecutions(history: History): void {
	const attempts = new Map<string, string[]>();
	for (const [key, { node, count }] of history.executions) {
		if (count > 1) history.violate('nothing-runs-twice', `attempt ${key} began ${count} times on ${node}`);
		const [taskId = ''] = key.split('/');
		attempts.set(taskId, [...(attempts.get(taskId) ?? []), key]);
	}
	for (const [taskId, keys] of attempts)
		if (keys.length > 1) history.violate('nothing-runs-twice', `task ${taskId} began under ${keys.join(' and ')}`);
}

/** Once everything has healed and come to rest. */
export function checkAtRest(history: History, image: Image): void {
	for (const task of image.tasks.values()) {
		if (isOpen(task)) {
			history.violate('everything-ends', `task ${task.id} is still ${task.state} (attempt ${task.attempt})`);
			continue;
		}
		try {
			checkDocuments(history, image, task);
		} catch (error) {
			history.violate('one-receipt-per-attempt', `the documents of task ${task.id} can't be read: ${String(error)}`);
		}
	}
	for (const [key, { node, receipts }] of history.finished) {
		if (receipts.size !== 1 && !history.unanswerable.has(key))
			history.violate(
				'one-receipt-per-attempt',
				`${node} signed ${receipts.size} different receipts for attempt ${key}`,
			);
	}
	for (const [key, { node }] of history.executions) {
		const receipt = image.documents.get(key)?.receipt ?? null;
		if (receipt === null && !history.unanswerable.has(key))
			history.violate('one-receipt-per-attempt', `attempt ${key} began on ${node} and has no receipt`);
	}
}

/** Every ended task says how: by its agent's receipt, its agent's refusal, or a closing signed by the server. */
function checkDocuments(history: History, image: Image, task: TaskRecord): void {
	const key = `${task.id}/${task.attempt}`;
	const documents = image.documents.get(key);
	const violate = (message: string) =>
		history.violate('one-receipt-per-attempt', `task ${task.id} (${task.state}): ${message}`);
	if (documents?.receipt) {
		const { payload } = fromBinary(DsseEnvelopeSchema, documents.receipt);
		const receipt = fromBinary(TaskReceiptSchema, payload);
		if (receipt.taskId !== task.id || receipt.attempt !== task.attempt) violate('its receipt is about another attempt');
		const ordered = documents.envelope && fromBinary(DsseEnvelopeSchema, documents.envelope).payload;
		const digest = createHash('sha256')
			.update(ordered ?? new Uint8Array())
			.digest();
		if (Buffer.compare(digest, receipt.envelopeSha256) !== 0) violate('its receipt answers another envelope');
		return;
	}
	if (documents?.closing) {
		const envelope = fromBinary(DsseEnvelopeSchema, documents.closing);
		const closing = fromBinary(TaskClosingSchema, envelope.payload);
		if (closing.taskId !== task.id) violate('its closing is about another task');
		if (!isSigned(envelope, documents.signer_certificate)) violate('its closing is not signed by its signer');
		return;
	}
	if (!history.refused.has(key)) violate('it has neither receipt nor closing, and its agent refused nothing');
}

/** DSSE v1: PAE = `DSSEv1 <type length> <type> <body length> <body>`. */
function isSigned(
	envelope: {
		readonly payloadType: string;
		readonly payload: Uint8Array;
		readonly signatures: readonly { readonly sig: Uint8Array }[];
	},
	certificate: Uint8Array | null,
): boolean {
	const signature = envelope.signatures[0]?.sig;
	if (certificate === null || signature === undefined) return false;
	const head = `DSSEv1 ${Buffer.byteLength(envelope.payloadType)} ${envelope.payloadType} ${envelope.payload.length} `;
	const pae = Buffer.concat([Buffer.from(head, 'utf8'), envelope.payload]);
	const key = createPublicKey(new X509Certificate(certificate).publicKey.export({ format: 'pem', type: 'spki' }));
	return verify(null, pae, key, signature);
}
