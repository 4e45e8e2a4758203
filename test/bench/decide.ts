import { decide, type Question } from '../../control-plane/app/iam/decide.ts';
import type { RoleBinding } from '../../control-plane/context.ts';
import { assert } from '../../kit/assert.ts';
import { timed } from './measure.ts';
import { atLeast, type Row } from './row.ts';

/**
 * Authorization decisions: a member of some projects asks for an object in the last of them, so that every binding is
 * looked at. n is the number of bindings. The reference is one look-up in a Set, which no decision can beat.
 */
const DECISIONS = 300_000;

export const row: Row = {
	name: 'decide',
	what: 'authorization decisions by decide()',
	unit: '1/s',
	per: 'bindings',
	reference: 'look-ups in a Set of permissions',
	targets: [atLeast(1_000_000, '>= 1 M/s (1 binding)', ({ n, value }) => (n === 1 ? value.median : undefined))],
	sizes: { full: [1, 10, 100], quick: [1, 10] },
	repetitions: { full: 5, quick: 3 },
	budgetSeconds: 15,
	open: async () => ({ run, [Symbol.asyncDispose]: async () => {} }),
};

async function run(n: number) {
	const bindings: RoleBinding[] = Array.from({ length: n }, (_, index) => ({
		role: 'tenant.developer',
		scope: `organizations/acme/projects/p${index}`,
	}));
	const actor = { kind: 'user', bindings } as const;
	const question: Question = {
		authenticated: true,
		permission: 'tasks.get',
		stepUp: false,
		target: { kind: 'object', getPermission: 'tasks.get', project: { organization: 'acme', project: `p${n - 1}` } },
	};
	assert(decide(actor, question).allowed, 'the question that is measured is answered with yes');
	const count = Math.ceil(DECISIONS / n);
	const value = await loop(count, () => decide(actor, question).allowed);
	const permissions = new Set(['tasks.get', 'tasks.list', 'nodes.get']);
	const reference = await loop(DECISIONS, () => permissions.has(question.permission));
	return { value, reference };
}

async function loop(count: number, work: () => boolean): Promise<number> {
	let yes = 0;
	const ms = await timed(() => {
		for (let done = 0; done < count; done += 1) if (work()) yes += 1;
	});
	assert(yes === count, 'every answer was yes');
	return (count / ms) * 1000;
}
