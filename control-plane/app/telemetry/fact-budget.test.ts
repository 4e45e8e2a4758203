import { create } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { type Fact, FactSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { FactBudget } from './fact-budget.ts';

/** Of health facts 4 at once and 60 an hour, of inventories 2 and 6. */
const LIMITS = { health: { burst: 4, perHour: 60 }, inventory: { burst: 2, perHour: 6 } };
const MINUTE_MS = 60_000;
let clock: VirtualClock;
let budget: FactBudget;
beforeEach(() => {
	clock = new VirtualClock();
	budget = new FactBudget(clock, LIMITS);
});

type Kind = 'health' | 'inventory' | 'agentAudit';
/** `h3` is a health fact with the number 3, `i` an inventory, `a` what an agent did by itself. */
function facts(...names: readonly string[]): Fact[] {
	const kinds: Readonly<Record<string, Kind>> = { h: 'health', i: 'inventory', a: 'agentAudit' };
	return names.map((name) =>
		create(FactSchema, {
			seq: BigInt(name.slice(1)),
			fact: { case: kinds[name[0] ?? ''] as Kind, value: {} },
		} as never),
	);
}
const health = (from: number, to: number) =>
	facts(...Array.from({ length: to - from + 1 }, (_, index) => `h${from + index}`));
/** Judged and stored. */
function commit(nodeId: string, batch: readonly Fact[]) {
	const verdict = budget.judge(nodeId, batch);
	budget.committed(nodeId, verdict);
	return verdict;
}
const refusedOf = (nodeId: string) => budget.refusedOf(nodeId).map(({ kind, count }) => [kind, count]);

describe('of a batch', () => {
	test('the newest are kept, as many as there are tokens', () => {
		expect(commit('a', health(1, 7))).toMatchObject({
			refused: new Set([1n, 2n, 3n]),
			counts: { health: 3 },
			taken: { health: 4, inventory: 0 },
		});
	});

	test('each kind has tokens of its own, and what has no budget takes none and is never refused', () => {
		const batch = facts('h1', 'i2', 'a3', 'h4', 'i5', 'a6', 'i7', 'a8', 'h9', 'h10', 'h11');
		const verdict = commit('a', batch);
		expect([...verdict.refused].sort()).toEqual([1n, 2n]);
		expect(verdict).toMatchObject({ counts: { health: 1, inventory: 1 }, taken: { health: 4, inventory: 2 } });
	});

	test('what one node takes another keeps', () => {
		commit('a', health(1, 100));
		expect(commit('b', health(1, 4)).refused.size).toBe(0);
		expect(refusedOf('b')).toEqual([]);
	});
});

describe('tokens', () => {
	test('come back with time, each kind at its own rate, and never more than the burst', () => {
		commit('a', [...health(1, 4), ...facts('i5', 'i6')]);
		clock.advance(MINUTE_MS - 1);
		expect(commit('a', health(7, 7)).refused.size).toBe(1);
		clock.advance(1);
		expect(commit('a', health(8, 9)).refused).toEqual(new Set([8n]));
		expect(commit('a', facts('i10')).refused.size).toBe(1);
		clock.advance(9 * MINUTE_MS);
		expect(commit('a', facts('i11', 'i12')).refused).toEqual(new Set([11n]));
		clock.advance(1000 * MINUTE_MS);
		expect(commit('a', health(20, 29)).taken.health).toBe(LIMITS.health.burst);
		expect(commit('a', facts('i30', 'i31', 'i32')).taken.inventory).toBe(LIMITS.inventory.burst);
	});

	test('of a unit that failed are given back, each kind its own, and its summary is still to be said', () => {
		const batch = [...health(1, 6), ...facts('i7', 'i8', 'i9')];
		for (let tries = 0; tries < 5; tries += 1) {
			const verdict = budget.judge('a', batch);
			expect(verdict).toMatchObject({ taken: { health: 4, inventory: 2 }, summary: { health: 2, inventory: 1 } });
			budget.restore('a', verdict);
		}
		// Nothing of it was refused: it comes again.
		expect([refusedOf('a'), [...budget.totals]]).toEqual([[], []]);
		expect(commit('a', batch).summary).toEqual({ health: 2, inventory: 1 });
	});
});

describe('what was refused', () => {
	test('is said in one summary a minute, with all that came since the last', () => {
		expect(commit('a', health(1, 6)).summary).toEqual({ health: 2 });
		expect(commit('a', health(7, 9)).summary).toBeUndefined();
		expect(commit('a', facts('i10', 'i11', 'i12')).summary).toBeUndefined();
		clock.advance(MINUTE_MS);
		// One more health fact is taken by then; the batch itself has nothing that is refused.
		expect(commit('a', health(13, 13)).summary).toEqual({ health: 3, inventory: 1 });
		clock.advance(MINUTE_MS);
		expect(commit('a', health(14, 14)).summary).toBeUndefined();
		// Of another node at any time.
		expect(commit('b', health(1, 5)).summary).toEqual({ health: 1 });
	});

	test('is counted by kind, of each node with its age, and of all', () => {
		commit('a', health(1, 6));
		clock.advance(1000);
		commit('b', health(1, 5));
		budget.note('a', { audit: 7, health: 0 });
		expect(budget.refusedOf('a')).toEqual([
			{ kind: 'health', count: 2, ageMs: 1000 },
			{ kind: 'audit', count: 7, ageMs: 0 },
		]);
		expect([...budget.totals]).toEqual([
			['health', 3],
			['audit', 7],
		]);
		commit('a', health(7, 7));
		expect(budget.refusedOf('a')[0]).toEqual({ kind: 'health', count: 3, ageMs: 0 });
	});

	test('of a node that was removed is forgotten, but not what is counted of all', () => {
		commit('a', health(1, 6));
		commit('a', health(7, 8));
		budget.forget('a');
		expect(refusedOf('a')).toEqual([]);
		expect([...budget.totals]).toEqual([['health', 4]]);
		clock.advance(MINUTE_MS);
		// What it had not said yet is not said of whoever has its name next.
		expect(commit('a', health(9, 9)).summary).toBeUndefined();
	});

	test('is remembered of so many nodes: the one that was refused first goes', () => {
		for (let node = 0; node < 10_001; node += 1) budget.note(`n${node}`, { audit: 1 });
		expect([refusedOf('n0'), refusedOf('n1'), refusedOf('n10000')]).toEqual([[], [['audit', 1]], [['audit', 1]]]);
	});
});
