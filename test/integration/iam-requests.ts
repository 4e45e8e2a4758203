import type { DescMethod } from '@bufbuild/protobuf';
import { type IamSample, sampleName } from './iam-sample.ts';

/** A request of each method of identity and access that the contract lets through, about the sample. */
export function iamRequest(method: DescMethod, sample: IamSample): Record<string, unknown> | undefined {
	if (!method.parent.typeName.startsWith('gpuaas.iam.')) return undefined;
	const request: Record<string, unknown> = {};
	for (const { localName } of method.input.fields) {
		const value = field(localName, method.name, sample);
		if (value !== undefined) request[localName] = value;
	}
	return request;
}

/** The collection that a method's `name` is of. */
const COLLECTIONS: readonly (readonly [RegExp, string])[] = [
	[/Scope/, ''],
	[/ServiceAccount/, 'serviceAccounts'],
	[/Group/, 'groups'],
	[/Member/, 'members'],
	[/Invitation/, 'invitations'],
	[/Role/, 'roles'],
	[/Binding/, 'bindings'],
	[/Guardrail/, 'guardrails'],
	[/Key/, 'keys'],
];

export function collectionOf(methodName: string): string {
	return COLLECTIONS.find(([pattern]) => pattern.test(methodName))?.[1] ?? '';
}

function field(name: string, methodName: string, sample: IamSample): unknown {
	const { scope, suffix, userId } = sample;
	const collection = collectionOf(methodName);
	switch (name) {
		case 'name':
			return collection === '' ? scope : sampleName(sample, collection);
		case 'parent':
			return methodName === 'ListScopes' ? '' : scope;
		case 'newParent':
			return scope.split('/projects/')[0];
		case 'serviceAccount':
			return sampleName(sample, 'serviceAccounts');
		case 'id':
			return `new-${suffix}`;
		case 'displayName':
			return `New ${suffix}`;
		case 'kind':
			return 'SCOPE_KIND_PROJECT';
		case 'etag':
			return 'v1';
		case 'reason':
			return 'sample';
		case 'planDigest':
			return 'ab';
		case 'principalId':
			return methodName === 'Explain' ? '' : userId;
		case 'userId':
			return userId;
		case 'keyId':
			return `key-${suffix}`;
		case 'role':
			return 'tenant.viewer';
		case 'permissions':
			return methodName === 'CreateGuardrail' ? ['tasks.create'] : [];
		case 'email':
			return 'ada@acme.example';
		case 'method':
			return 'GetScope';
		case 'resource':
			return scope;
		case 'key':
			return 'gpu_sk_nothing';
		default:
			return undefined;
	}
}
