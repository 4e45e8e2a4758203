import { expect, test } from 'vitest';
import { parsePolicy } from '../tasks/policy.ts';
import { forwardProgram } from './user-program.ts';

const policy = parsePolicy('[forward]\nallow = ["10.99.0.0/16:80"]\nnever = ["10.1.0.0/16"]\n', 'policy.toml');
const target = { host: '10.99.0.7', port: 80 } as Parameters<typeof forwardProgram>[1];
const management = ['172.31.7.1', '172.31.7.0/24'];
const closed = (never: readonly string[]) =>
	forwardProgram(policy, target, { gateways: ['10.2.0.1:9443'], management, never });

test('a forward stays out of what the policy, the control plane and its gateways keep closed, and of the BMC', () => {
	const verdict = closed(['10.99.0.0/24', 'fd00::/8']);
	const { rules } = JSON.parse(verdict.kind === 'ok' ? verdict.argument : '{}') as { rules: { never: string[] } };
	expect(rules.never).toEqual(['10.1.0.0/16', '10.99.0.0/24', 'fd00::/8', ...management, '10.2.0.1']);
});

test('a list that can not be read closes everything', () => {
	for (const range of ['10.0.0.0/33', 'bmc.internal', ''])
		expect(closed(['10.0.0.0/8', range])).toMatchObject({ kind: 'refused', reason: 'ENVELOPE_MALFORMED' });
});
