import { expect, test } from 'vitest';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { API_USE_CASES } from '../../control-plane/api/use-cases.ts';
import { TAKING } from '../../control-plane/app/access/takes.ts';
import { recordsSuccess } from '../../control-plane/app/use-case.ts';
import { isTest, listFiles, readText } from './sources.ts';

/**
 * Explain names every gate that a call can meet after it was allowed. What takes from a quota or asks for an entitlement is
 * listed here with its RPCs, and each of these is in the table that Explain reads.
 */
const TAKERS: Readonly<Record<string, readonly string[]>> = {
	'control-plane/app/tasks/create.ts': ['TaskService/CreateTask'],
	'control-plane/app/nodes/assignment-terms.ts': ['NodeService/AssignNode'],
	'control-plane/app/terminals/open-channel.ts': [
		'TerminalService/OpenTerminal',
		'FileService/ReadFiles',
		'FileService/WriteFiles',
		'PortService/ForwardPort',
	],
	'control-plane/app/keys/counted.ts': ['KeyService/CreateKey', 'KeyService/RotateKey'],
	'control-plane/app/scopes/move.ts': ['ScopeService/MoveScope'],
};
const TAKES = /\b(takeQuota|reserveQuota|extendQuota|moveQuotas|assertEntitled)\(/;
/** Where these are made. */
const MADE = /^control-plane\/app\/(quotas|entitlements)\//;

test('whatever takes from a quota or asks for an entitlement is explained', () => {
	const taking = listFiles()
		.filter((path) => /^control-plane\/.*\.ts$/.test(path) && !isTest(path) && !MADE.test(path))
		.filter((path) => TAKES.test(readText(path)));
	expect(taking.toSorted()).toEqual(Object.keys(TAKERS).toSorted());
	const named = Object.values(TAKERS).flat();
	expect(
		Object.keys(TAKING)
			.map((name) => name.split('.').at(-1))
			.toSorted(),
	).toEqual(named.toSorted());
	const served = new Set(
		API_SERVICES.flatMap((service) => service.methods).map((method) => `${method.parent.typeName}/${method.name}`),
	);
	expect(Object.keys(TAKING).filter((name) => !served.has(name))).toEqual([]);
});

/** Changes that list no gate between the decision and what they do, and why. None of it says that they can't be refused. */
const UNGATED: Readonly<Record<string, readonly string[]>> = {
	'by what the request gives: which role, whom, how much, which name, which etag': [
		...['CreateBinding', 'UpdateRole', 'DeleteGuardrail', 'DeleteGroup'],
		...['DeleteServiceAccount', 'SuspendServiceAccount', 'ResumeServiceAccount', 'RenameScope'],
		...['EndEntitlement', 'SetNodeLabels'],
	],
	'what it is about is a field of the request that Explain is not told': [
		...['SuspendUser', 'ResumeUser', 'SetFeature', 'UnsetFeature', 'CreateToken', 'RevokeToken'],
		...['RevokeCertificate', 'RotateCertificateAuthority', 'CreateLoginDomain', 'DeleteLoginDomain'],
		...['CreateApproval', 'ApproveApproval', 'RejectApproval', 'RegisterBreakGlassKey', 'RemoveBreakGlassKey'],
	],
	'about the caller alone': [
		...['RotateMyKey', 'RevokeMyKey', 'EndLogin', 'AcceptInvitation'],
		...['BeginBreakGlass', 'CompleteBreakGlass', 'EndBreakGlass'],
	],
	'twice is as good as once, whatever became of it': [
		...['RevokeKey', 'RemoveGroupMember', 'CancelTask', 'CancelOperation', 'KillTerminal', 'ClearNodeHealthOverride'],
	],
};

/** Judged by what it is told beside its object, and so by TAKING alone. */
const TAKES_ALONE: ReadonlySet<string> = new Set(['gpuaas.iam.v1.ScopeService/MoveScope']);

test('a change lists the gates that it meets, or says why there are none', () => {
	// One that takes from a quota may meet other things besides.
	const without = API_USE_CASES.filter(({ policy }) => recordsSuccess(policy) && !TAKES_ALONE.has(policy.name))
		.filter(({ gates = [] }) => gates.length === 0)
		.map(({ method }) => method.name);
	expect(without.toSorted()).toEqual(Object.values(UNGATED).flat().toSorted());
});

/** Who looks at the state of things and isn't a gate. */
const LOOKS: Readonly<Record<string, string>> = {
	'control-plane/app/access/change-binding.ts': 'its gate; and a shorter end of a binding, which the request gives',
	'control-plane/app/access/later-gates.ts': 'what Explain says of a move',
	'control-plane/app/principals/remove-member.ts': 'its gate',
	'control-plane/app/principals/suspend.ts': 'the request names the user',
	'control-plane/app/scopes/move.ts': 'explained by later-gates, which needs to be told the new parent',
	'control-plane/app/terminals/open-channel.ts': 'before it signs; the gate asks again in the unit',
};
const STATE =
	/\b(checkTakesWork|checkCustody|checkHealth|assertNotRetired|assertConnected|assertOwnerLeft|assertMayLeave)\((?!deps\))/;

test('the state of a node, of a parent and of owners refuses nothing past the gates', () => {
	const looking = listFiles()
		.filter((path) => /^control-plane\/app\/.*\.ts$/.test(path) && !isTest(path) && !path.endsWith('/nodes/gates.ts'))
		.filter((path) =>
			readText(path)
				.split('\n')
				.some((line) => STATE.test(line) && !/\bfunction\b/.test(line)),
		);
	expect(looking.toSorted()).toEqual(Object.keys(LOOKS));
});
