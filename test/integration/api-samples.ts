import type { DescMethod } from '@bufbuild/protobuf';
import { RotationStep } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { AssignmentMode } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';

/** The objects that a generated request may name. */
export interface SampleIds {
	readonly node: string;
	readonly taskId: string;
	readonly operationId: string;
	readonly tokenId: string;
	readonly serial: string;
	readonly etag: string;
}

/**
 * A request of each method that the contract lets through, as JSON. A method that is not here gets `{}` and the ids of
 * its fields: so a new method is in the matrix from its first day.
 */
export function sampleRequest(method: DescMethod, ids: SampleIds): Record<string, unknown> {
	const request: Record<string, unknown> = {};
	const named: Readonly<Record<string, string>> = { ...ids };
	for (const { localName } of method.input.fields) {
		const id = localName === 'etag' || localName === 'node' || localName.endsWith('Id') ? named[localName] : undefined;
		if (id !== undefined && id !== '') request[localName] = id;
	}
	return { ...request, ...REST[method.name]?.(ids) };
}

const REST: Readonly<Record<string, (ids: SampleIds) => Record<string, unknown>>> = {
	CreateTask: () => ({ spec: { run: { argv: ['/bin/true'] } } }),
	AssignNode: () => ({ organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR }),
	UnlockNode: () => ({ reason: 'looked at both hosts' }),
	RevokeCertificate: ({ serial }) => ({ serial, reason: 'key was copied' }),
	RotateCertificateAuthority: () => ({ step: RotationStep.PREPARE, reason: 'drill' }),
	ListNodes: () => ({}),
	ListTasks: () => ({ node: '' }),
	ListCertificates: () => ({ node: '' }),
};
