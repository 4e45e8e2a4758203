import { beforeAll, expect, test } from 'vitest';
import { AuditClass, Caller, StepUp } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { listMethods, nameOf, policyOf, readContract } from './contract.ts';

/**
 * Whatever changes something asks for a step-up, or is here with the reason why it doesn't (docs/login.md has the rule): so a
 * new method that gives rights, secrets or nodes can't go without one by mistake.
 */
const WITHOUT: Readonly<Record<string, readonly string[]>> = {
	'it stops or takes away, and whoever sees a fire must be able to': [
		...['RevokeKey', 'RevokeMyKey', 'RevokeToken', 'RevokeInvitation', 'EndLogin', 'EndBreakGlass', 'RejectApproval'],
		...['DeleteBinding', 'DeleteRole', 'RemoveMember', 'RemoveGroupMember', 'DeleteGroup', 'DeleteServiceAccount'],
		...['SuspendServiceAccount', 'SuspendScope', 'DeleteLoginDomain', 'CreateGuardrail', 'HoldRecording'],
		...['CordonNode', 'DrainNode', 'UnassignNode', 'CancelTask', 'CancelOperation', 'KillTerminal'],
	],
	'everyday work, within rights that were given with one': [
		...['CreateTask', 'OpenTerminal', 'AttachTerminal', 'ObserveTerminal', 'ReadFiles', 'WriteFiles', 'ForwardPort'],
		...['ShareTerminal', 'RequestFastTelemetry', 'SetNodeLabels', 'UncordonNode'],
	],
	'nobody can use yet what it makes, or only its name changes': [
		...['CreateScope', 'RenameScope', 'CreateGroup', 'CreateServiceAccount', 'CreateApproval'],
	],
	'the secret or the signatures that it takes are its proof': [
		...['AcceptInvitation', 'BeginBreakGlass', 'CompleteBreakGlass'],
	],
};

let changing: readonly string[];
beforeAll(async () => {
	changing = listMethods(await readContract()).flatMap((method) => {
		const policy = policyOf(method);
		const isPersons = policy?.caller === Caller.PRINCIPAL || policy?.caller === Caller.ANYONE;
		const changes = policy?.audit === AuditClass.MUTATION || policy?.audit === AuditClass.PRIVILEGED;
		return isPersons && changes && policy.stepUp !== StepUp.REQUIRED ? [nameOf(method).split('/').at(-1) ?? ''] : [];
	});
});

test('each change without a step-up says why', () => {
	const named = Object.values(WITHOUT).flat();
	expect(changing.toSorted(), 'step_up: STEP_UP_REQUIRED, or its reason here').toEqual(named.toSorted());
});
