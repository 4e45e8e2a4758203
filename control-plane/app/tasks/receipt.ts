import { create, fromBinary } from '@bufbuild/protobuf';
import { parseCertificate } from '../../../pki/x509/parse.ts';
import { type DsseEnvelope, DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { GetTaskReceiptResponseSchema, TaskService } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { CertificateAuthority } from '../certificates/certificate-authority.ts';
import { query } from '../use-case.ts';

/** The signed documents of the newest attempt, byte for byte, with the certificates to check them offline. */
export const getTaskReceipt = query('task', TaskService.method.getTaskReceipt, {
	*read(tx, _call, { task }) {
		return yield* tx.tasks.getDocuments(task.id, task.attempt);
	},
	answer({ deps }, documents) {
		return create(GetTaskReceiptResponseSchema, {
			...optional('envelope', documents?.envelope),
			...optional('receipt', documents?.receipt),
			...optional('closing', documents?.closing),
			nodeChain: chainOf(deps.authority, documents?.nodeCertificate),
			signerChain: chainOf(deps.authority, documents?.signerCertificate),
		});
	},
});

/** Leaf first. By the issuer that the leaf names, not by the node's present one: a receipt outlives a rotation. */
function chainOf(authority: CertificateAuthority, leaf: Uint8Array | null | undefined): Uint8Array<ArrayBuffer>[] {
	if (leaf === null || leaf === undefined) return [];
	const parsed = parseCertificate(leaf);
	const issuers = parsed.kind === 'ok' ? authority.chainOf(parsed.certificate.issuerKeyIdHex ?? '') : [];
	return [leaf, ...issuers].map((der) => new Uint8Array(der));
}

function optional<Name extends string>(
	name: Name,
	bytes: Uint8Array | null | undefined,
): { [key in Name]?: DsseEnvelope } {
	const empty: { [key in Name]?: DsseEnvelope } = {};
	if (bytes === null || bytes === undefined) return empty;
	return { ...empty, [name]: fromBinary(DsseEnvelopeSchema, bytes) };
}
