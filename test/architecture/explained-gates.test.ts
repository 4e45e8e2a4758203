import { expect, test } from 'vitest';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { TAKING } from '../../control-plane/app/access/takes.ts';
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
