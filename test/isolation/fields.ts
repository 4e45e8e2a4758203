import { type DescField, type DescMethod, ScalarType } from '@bufbuild/protobuf';
import type { Sample } from './sample.ts';

/**
 * Which fields of requests can name what is somebody's. Every text of every request is in one of the two lists, or the
 * build fails (test/architecture/isolation.test.ts): so a new field that is an id can't stay out of the matrix.
 */
type ValueOf = (sample: Sample) => string | readonly string[];

/** By the name of the field; `sampled`: as the sample request of the method has it. */
export const ID_FIELDS: Readonly<Record<string, ValueOf | 'sampled'>> = {
	approvalId: ({ approvalId }) => approvalId,
	batchId: ({ batchId }) => batchId,
	keyId: 'sampled',
	name: 'sampled',
	newParent: 'sampled',
	node: ({ node }) => node,
	operationId: ({ operationId }) => operationId,
	organization: ({ organization }) => organization,
	ownerId: ({ iam }) => iam.userId,
	parent: ({ iam }) => iam.scope,
	principalId: ({ iam }) => iam.userId,
	recordingId: ({ recordingId }) => recordingId,
	// Of CreateApproval: a call about a service account of the sample.
	requestJson: ({ iam }) =>
		JSON.stringify({ serviceAccount: `${iam.scope}/serviceAccounts/account-${iam.suffix}`, displayName: 'x' }),
	resource: ({ iam }) => iam.scope,
	role: ({ organization, iam }) => `organizations/${organization}/roles/role-${iam.suffix}`,
	scope: ({ iam }) => iam.scope,
	serial: ({ serial }) => serial,
	serviceAccount: 'sampled',
	target: ({ taskId }) => `tasks/${taskId}`,
	taskId: ({ taskId }) => taskId,
	terminalId: ({ terminalId }) => terminalId,
	tokenId: ({ tokenId }) => tokenId,
	userId: ({ iam }) => iam.userId,
	waiveNodes: ({ node }) => [node],
};

/** Fields by these names name nothing of anybody: text for people, names of what is being made, words of the contract. */
export const NO_ID_FIELDS: ReadonlySet<string> = new Set([
	...['action', 'cidrs', 'displayName', 'domain', 'email', 'expectedSerial', 'host', 'id', 'issuer', 'keys', 'labels'],
	...['method', 'nodeName', 'part', 'path', 'permissions', 'principalKinds', 'project', 'purpose', 'reason', 'rpId'],
	...['selector', 'signal', 'spec', 'user', 'subject', 'feature', 'faults', 'names'],
	// Secrets, which nobody else has, and what other cases of the matrix are about.
	...['invitationToken', 'key', 'grantId', 'signatures', 'planDigest', 'etag', 'requestId', 'pageToken'],
]);

/** Where a field by such a name is no reference: a label that the caller makes up for what is being made. */
export const NO_REFERENCE: ReadonlySet<string> = new Set(['CreateTask.batchId', 'RegisterBreakGlassKey.name']);

export function idFieldsOf(method: DescMethod): readonly string[] {
	return method.input.fields
		.map(({ localName }) => localName)
		.filter((name) => name in ID_FIELDS && !NO_REFERENCE.has(`${method.name}.${name}`));
}

/** Texts of the method's request that are in neither list. */
export function unclassifiedFields(method: DescMethod): readonly string[] {
	return method.input.fields
		.filter(isText)
		.map(({ localName }) => localName)
		.filter((name) => !(name in ID_FIELDS) && !NO_ID_FIELDS.has(name));
}

/** Also those whose texts are further inside. */
function isText(field: DescField): boolean {
	if (field.fieldKind === 'scalar') return field.scalar === ScalarType.STRING;
	if (field.fieldKind === 'map') return true;
	if (field.fieldKind === 'list' && field.listKind === 'scalar') return field.scalar === ScalarType.STRING;
	const { message } = field;
	return message !== undefined && !message.typeName.startsWith('google.protobuf.') && message.fields.some(isText);
}
