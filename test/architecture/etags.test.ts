import { expect, test } from 'vitest';
import { AuditClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { listMethods, nameOf, policyOf, readContract } from './contract.ts';

/**
 * Two people who change one thing of identity, access or quota don't undo each other unseen (AIP-154): the change names
 * what it was made from, or is here with the reason why it needn't. That they heed it: test/integration/etags.
 */
const WITHOUT: Readonly<Record<string, readonly string[]>> = {
	'it ends something for good, whatever was changed of that meanwhile': [
		...['RevokeKey', 'RevokeMyKey', 'RevokeInvitation', 'RemoveMember', 'DeleteLoginDomain', 'EndLogin'],
	],
	'one member of a set: twice is as good as once, and two who change two members are no conflict': [
		...['AddGroupMember', 'RemoveGroupMember'],
	],
	'the digest of the plan that was shown holds the version, and what stands below': ['DeleteScope'],
	'decided once: what is not pending any more is refused': ['ApproveApproval', 'RejectApproval'],
};
const PACKAGES = /^gpuaas\.(iam|quota|features|approvals|login)\./;
const CHANGES: ReadonlySet<AuditClass> = new Set([AuditClass.MUTATION, AuditClass.PRIVILEGED]);
const MAKES = /^(Create|Grant|Accept|Report)/;

test('each change of what is there takes the etag of what was read, or says why not', async () => {
	const without = listMethods(await readContract())
		.filter((method) => PACKAGES.test(method.parent.typeName) && !MAKES.test(method.name))
		.filter((method) => CHANGES.has(policyOf(method)?.audit ?? AuditClass.UNSPECIFIED))
		.filter((method) => !method.input.fields.some(({ localName }) => localName === 'etag'))
		.map((method) => nameOf(method).split('/').at(-1));
	expect(without.toSorted()).toEqual(Object.values(WITHOUT).flat().toSorted());
});
