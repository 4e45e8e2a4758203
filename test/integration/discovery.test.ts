import { expect, test } from 'vitest';
import type { AppDeps } from '../../control-plane/app/deps.ts';
import { discover } from '../../control-plane/ops/discovery.ts';
import { SqliteStore } from '../../control-plane/store/sqlite/store.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { nodeRow } from '../contract/store/rows.ts';

/** Read in pages of a thousand: the last one of them is full. */
const NODES = 3000;

test('discovery names each node of a large fleet once, and none that is retired', async () => {
	await using store = new SqliteStore({ at: { memory: null }, clock: systemClock });
	const ids = Array.from({ length: NODES }, () => uuidv7(systemClock.now(), systemRng)).sort();
	await store.unit(function* (tx) {
		for (const id of ids) yield* tx.nodes.insert(nodeRow(id, { name: id }));
		yield* tx.nodes.insert(nodeRow('node-gone', { name: 'gone', state: 'retired', retiredAtMs: 9 }));
	});
	const found = async (query: string) => {
		const deps = { store } as unknown as AppDeps;
		const answer = await discover(deps, { target: 'x:1', nodeLabels: [], query: new URLSearchParams(query) });
		if ('wrong' in answer) throw new Error(answer.wrong);
		const groups = JSON.parse(answer.json) as { readonly labels: { readonly node: string } }[];
		return groups.map(({ labels }) => labels.node);
	};
	expect(await found('')).toEqual(ids);
	const parts = await Promise.all([0, 1, 2].map((index) => found(`shard=${index}&of=3`)));
	expect(parts.flat().sort()).toEqual(ids);
	for (const part of parts) expect(part.length).toBeGreaterThan(NODES / 3 / 2);
});
