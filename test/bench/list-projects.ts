import { visibilityOf } from '../../control-plane/app/iam/decide.ts';
import { permissionBit } from '../../control-plane/app/iam/permissions.ts';
import type { ScopeRow, Visibility } from '../../control-plane/store/port/scopes.ts';
import { IamBench } from './iam-world.ts';
import { timed } from './measure.ts';
import { atMost, type Row } from './row.ts';

/**
 * Pages of a list of projects, for a tenant who sees all n of them: the slowest page of 100, and all pages of 1,000. The
 * reference is the same rows with nothing filtered.
 */
export const row: Row = {
	name: 'list-projects',
	what: 'slowest page of 100 projects, filtered by what the caller sees',
	unit: 'ms',
	per: 'projects',
	reference: 'the slowest page, nothing filtered',
	targets: [atMost(50, 'a page <= 50 ms at 10,000', ({ n, value }) => (n === 10_000 ? value.median : undefined))],
	sizes: { full: [100, 1000, 10_000], quick: [100, 1000] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 60,
	async open() {
		const bench = new IamBench();
		return {
			async run(n) {
				await bench.found(n);
				const visibility = visibilityOf(await bench.ada(), permissionBit('scopes.get'), []);
				const filtered = await pages(bench, { visibility, limit: 100 });
				const bare = await pages(bench, { visibility: { all: true }, limit: 100 });
				const large = await pages(bench, { visibility, limit: 1000 });
				return { value: filtered.slowestMs, reference: bare.slowestMs, also: { allByThousandMs: large.allMs } };
			},
			[Symbol.asyncDispose]: () => bench[Symbol.asyncDispose](),
		};
	},
};

interface AskedPages {
	readonly visibility: Visibility;
	readonly limit: number;
}

async function pages(
	{ store }: IamBench,
	{ visibility, limit }: AskedPages,
): Promise<{ readonly slowestMs: number; readonly allMs: number }> {
	let slowestMs = 0;
	let allMs = 0;
	for (let afterId: string | undefined = ''; afterId !== undefined; ) {
		const page = { afterId, limit, visibility, organization: null, parent: null, kinds: ['project' as const] };
		const rows: (readonly ScopeRow[])[] = [];
		const ms = await timed(async () => rows.push(await store.read((tx) => tx.scopes.list(page))));
		slowestMs = Math.max(slowestMs, ms);
		allMs += ms;
		afterId = rows[0]?.at(-1)?.name;
	}
	return { slowestMs, allMs };
}
