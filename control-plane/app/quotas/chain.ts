import { present } from '../../../kit/assert.ts';
import type { QuotaKind, QuotaRow } from '../../store/port/quotas.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { ancestorsOf } from '../iam/place.ts';

/** The scope and those above it, without the platform: from the organization down. */
export function* chainOf(tx: Tx, path: string): Plan<readonly ScopeRow[]> {
	const rows = yield* tx.scopes.atPaths(ancestorsOf(path));
	return rows.filter(({ kind }) => kind !== 'platform').toSorted((a, b) => a.path.length - b.path.length);
}

export function organizationName(organization: string): string {
	return `organizations/${organization}`;
}

/**
 * The quota rows of a scope and of all above it, locked, from the scope up. The organization's is locked before the tree
 * is looked at: whoever moves a part of it holds that one too, so that the counters are those of where the scope stands.
 */
export function* lockChain(tx: Tx, organization: string, scope: string, kind: QuotaKind): Plan<readonly QuotaRow[]> {
	const root = organizationName(organization);
	const [top] = yield* tx.quotas.lock(organization, [root], kind);
	const rows = [present(top, 'its row was just made')];
	if (scope === root) return rows;
	const [leaf] = yield* tx.scopes.getMany([scope]);
	const chain = yield* chainOf(tx, present(leaf, 'what is counted stands at a scope').path);
	const below = chain.map(({ name }) => name).filter((name) => name !== root);
	rows.push(...(yield* tx.quotas.lock(organization, below, kind)));
	const depth = new Map(chain.map(({ name }, index) => [name, index]));
	return rows.toSorted((a, b) => (depth.get(b.scope) ?? 0) - (depth.get(a.scope) ?? 0));
}
