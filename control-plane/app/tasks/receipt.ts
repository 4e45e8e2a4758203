import { create, fromBinary } from '@bufbuild/protobuf';
import { type DsseEnvelope, DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { GetTaskReceiptResponseSchema, TaskService } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { query } from '../use-case.ts';

/** The signed documents of the newest attempt, byte for byte, with the certificates to check them offline. */
export const getTaskReceipt = query('task', TaskService.method.getTaskReceipt, {
	*read(tx, _call, { task }) {
		const documents = yield* tx.tasks.getDocuments(task.id, task.attempt);
		const slots = yield* tx.certificates.slots(task.nodeId);
		return { documents, nodeIssuer: (slots.current ?? slots.pending)?.issuerKeyId };
	},
	answer({ deps }, { documents, nodeIssuer }) {
		const node = documents?.nodeCertificate ?? null;
		const signer = documents?.signerCertificate ?? null;
		const chain = nodeIssuer === undefined ? [] : deps.authority.chainOf(nodeIssuer);
		return create(GetTaskReceiptResponseSchema, {
			...optional('envelope', documents?.envelope),
			...optional('receipt', documents?.receipt),
			...optional('closing', documents?.closing),
			nodeChain: node === null ? [] : [node, ...chain].map((der) => new Uint8Array(der)),
			signerChain: signer === null ? [] : [new Uint8Array(signer)],
		});
	},
});

function optional<Name extends string>(
	name: Name,
	bytes: Uint8Array | null | undefined,
): { [key in Name]?: DsseEnvelope } {
	const empty: { [key in Name]?: DsseEnvelope } = {};
	if (bytes === null || bytes === undefined) return empty;
	return { ...empty, [name]: fromBinary(DsseEnvelopeSchema, bytes) };
}
