import { type Access, compileAccess } from '../../control-plane/app/iam/access.ts';
import { decide, type Question, type Subject, UNLIMITED } from '../../control-plane/app/iam/decide.ts';
import { permissionBit } from '../../control-plane/app/iam/permissions.ts';
import { placeOf } from '../../control-plane/app/iam/place.ts';
import type { ScopeRow } from '../../control-plane/store/port/scopes.ts';
import { assert } from '../../kit/assert.ts';
import { scopeRow } from '../contract/store/rows.ts';
import { timed } from './measure.ts';
import { atLeast, type Row } from './row.ts';

/**
 * Authorization decisions: a member of n projects, n bindings, asks for objects in the last of them, four scopes deep.
 * The reference is one look-up in a Set, which no decision can beat.
 */
const DECISIONS = 1_000_000;

export const row: Row = {
	name: 'decide',
	what: 'authorization decisions by decide()',
	unit: '1/s',
	per: 'bindings',
	reference: 'look-ups in a Set of permissions',
	targets: [atLeast(1_000_000, '>= 1 M/s (1 to 1,000 bindings)', ({ value }) => value.median)],
	sizes: { full: [1, 10, 100, 1000], quick: [1, 100] },
	repetitions: { full: 5, quick: 3 },
	budgetSeconds: 15,
	open: async () => ({ run, [Symbol.asyncDispose]: async () => {} }),
};

async function run(n: number) {
	const last = `/acme/d.research/p.p${n - 1}/`;
	const chain: ScopeRow[] = [
		scopeRow('platform', '/'),
		scopeRow('organizations/acme', '/acme/'),
		scopeRow('organizations/acme/departments/research', '/acme/d.research/'),
		scopeRow(`organizations/acme/projects/p${n - 1}`, last),
	];
	const project = chain.at(-1);
	assert(project !== undefined, 'a chain has an end');
	const place = placeOf(project, chain, []);
	const subject: Subject = { kind: 'user', access: accessTo(n), limit: UNLIMITED };
	const get = permissionBit('tasks.get');
	const question: Question = {
		authenticated: true,
		permission: permissionBit('tasks.cancel'),
		reads: false,
		stepUp: false,
		target: { kind: 'object', get, place },
		nowMs: 0,
	};
	assert(decide(subject, question).allowed, 'the question that is measured is answered with yes');
	const value = await loop(DECISIONS, () => decide(subject, question).allowed);
	const permissions = new Set(['tasks.get', 'tasks.cancel', 'nodes.get']);
	const reference = await loop(DECISIONS, () => permissions.has('tasks.cancel'));
	return { value, reference };
}

function accessTo(projects: number): Access {
	const bindings = Array.from({ length: projects }, (_, index) => ({
		role: 'tenant.developer',
		path: `/acme/d.research/p.p${index}/`,
		permissions: [],
		expiresAtMs: null,
	}));
	return compileAccess(bindings, new Map(), 0);
}

async function loop(count: number, work: () => boolean): Promise<number> {
	let yes = 0;
	const ms = await timed(() => {
		for (let done = 0; done < count; done += 1) if (work()) yes += 1;
	});
	assert(yes === count, 'every answer was yes');
	return (count / ms) * 1000;
}
