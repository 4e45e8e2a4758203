import type { Tx } from '../../../control-plane/store/port/store.ts';
import type { Plan } from '../../../control-plane/store/port/unit.ts';
import { scopeRow } from './rows.ts';

/** Puts the organization and its project into the tree, whichever of the two isn't there yet. */
export function* insertProject(tx: Tx, organization: string, project: string): Plan<void> {
	const home = `organizations/${organization}`;
	const rows = [
		scopeRow(home, `/${organization}/`),
		scopeRow(`${home}/projects/${project}`, `/${organization}/p.${project}/`),
	];
	const there = (yield* tx.scopes.getMany(rows.map(({ name }) => name))).map(({ name }) => name);
	for (const row of rows) if (!there.includes(row.name)) yield* tx.scopes.insert(row);
	if (!there.includes(home)) yield* entitle(tx, home, ['gpu-model/*', 'feature/host-mode']);
}

/** Since ever and for ever. */
export function* entitle(tx: Tx, scope: string, subjects: readonly string[]): Plan<void> {
	const [, organization = ''] = scope.split('/');
	for (const subject of subjects)
		yield* tx.entitlements.insert({
			id: `${scope} ${subject}`,
			scope,
			organization,
			subject,
			fromMs: 0,
			untilMs: null,
			reason: '',
			createdAtMs: 0,
			createdBy: '',
			version: 1,
		});
}
