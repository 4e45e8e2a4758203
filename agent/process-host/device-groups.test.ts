import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { DeviceRule } from '../platform/device-rules.ts';
import { type DeviceCgroup, DeviceGroups, DevicesUnheld } from './device-groups.ts';

/** Which rules a group gets in which order, and when it goes; what the kernel does with them is in devices.test.ts. */
class Groups {
	readonly clock = new VirtualClock(0);
	readonly open = new Map<string, { rules: readonly DeviceRule[]; members: number; leftBelow: boolean }>();
	/** Applies half of the rules and fails. */
	isFailing = false;
	readonly groups = new DeviceGroups(this.clock, { mechanism: 'bpf', open: (name) => this.#open(name) });

	rulesOf(name: string): readonly number[] | undefined {
		return this.open.get(name)?.rules.map(({ major }) => major);
	}

	#open(name: string): DeviceCgroup {
		const state = { rules: [] as readonly DeviceRule[], members: 0, leftBelow: false };
		this.open.set(name, state);
		let wanted: readonly DeviceRule[] = [];
		let isRemoved = false;
		const remove = () => {
			// As rmdir does: whatever is in that place.
			const there = this.open.get(name);
			if (there !== undefined && (there.members > 0 || there.leftBelow)) return false;
			expect(isRemoved, 'removed once').toBe(false);
			isRemoved = true;
			this.open.delete(name);
			return true;
		};
		return {
			folder: undefined,
			apply: (rules) => {
				wanted = rules;
				if (this.isFailing) {
					state.rules = rules.slice(0, 1);
					throw new Error('the kernel is out of memory');
				}
				state.rules = rules;
			},
			isInForce: () => state.rules === wanted,
			isThere: () => this.open.get(name) === state,
			within: (work) => work(),
			remove,
			sweep: () => {
				if (state.members > 0) return false;
				state.leftBelow = false;
				return remove();
			},
		};
	}
}

const OLD = ['c 1:3 rw', 'c 195:0 rw'];
const NEW = ['c 1:3 rw'];
const IDLE_MS = 60_000;

describe('a list that came earlier', () => {
	test('does not bring back what a newer one took away, in a group that is there or in a new one', () => {
		const world = new Groups();
		world.groups.take({ group: 'a', allow: OLD });
		const [early, earlier] = [world.groups.turn(), world.groups.turn()];
		world.groups.update(NEW);
		expect(world.rulesOf('a')).toEqual([1]);
		world.groups.take({ group: 'a', allow: OLD }, early);
		world.groups.take({ group: 'b', allow: OLD }, earlier);
		expect([world.rulesOf('a'), world.rulesOf('b')]).toEqual([[1], [1]]);
		world.groups.take({ group: 'a', allow: OLD });
		expect(world.rulesOf('a')).toEqual([1, 195]);
	});

	test('stays behind another start as well', () => {
		const world = new Groups();
		const early = world.groups.turn();
		world.groups.take({ group: 'a', allow: NEW });
		world.groups.take({ group: 'a', allow: OLD }, early);
		expect(world.rulesOf('a')).toEqual([1]);
	});
});

test('rules that could not be put in force are tried again, not taken for those that were asked for before', () => {
	const world = new Groups();
	world.groups.take({ group: 'a', allow: NEW });
	world.isFailing = true;
	expect(() => world.groups.take({ group: 'a', allow: ['c 195:0 rw', 'c 1:3 rw'] })).toThrow(DevicesUnheld);
	expect(world.rulesOf('a')).toEqual([195]);
	world.isFailing = false;
	world.groups.take({ group: 'a', allow: NEW });
	expect(world.rulesOf('a')).toEqual([1]);
});

describe('a group that somebody else has removed', () => {
	function removed() {
		const world = new Groups();
		world.groups.take({ group: 'a', allow: OLD }).release();
		world.open.delete('a');
		return world;
	}

	test('is made anew with the newest list for whoever comes next, and old places are nobody’s', () => {
		const world = new Groups();
		const place = world.groups.take({ group: 'a', allow: OLD });
		world.open.delete('a');
		world.groups.take({ group: 'a', allow: NEW });
		expect(world.rulesOf('a')).toEqual([1]);
		place.release();
		world.clock.advance(2 * IDLE_MS);
		expect(world.open.has('a')).toBe(true);
	});

	test('is not told of changes, and holds up none of those that are there', () => {
		const world = removed();
		world.groups.take({ group: 'b', allow: OLD });
		world.groups.update(NEW);
		expect([world.open.has('a'), world.rulesOf('b')]).toEqual([false, [1]]);
	});

	test('takes in nobody where another is in its place', () => {
		const world = removed();
		world.open.set('a', { rules: [], members: 1, leftBelow: false });
		expect(() => world.groups.take({ group: 'a', allow: NEW })).toThrow(DevicesUnheld);
	});
});

describe('with as many groups as there may be', () => {
	function full(): Groups {
		const world = new Groups();
		for (let number = 0; number < 64; number += 1) {
			world.groups.take({ group: `a${number}`, allow: NEW });
			const state = world.open.get(`a${number}`);
			if (state !== undefined) state.members = 1;
		}
		return world;
	}

	test('another one is refused while there is somebody in each', () => {
		const world = full();
		world.clock.advance(2 * IDLE_MS);
		expect(() => world.groups.take({ group: 'more', allow: NEW })).toThrow(DevicesUnheld);
	});

	test('those give way in which nobody is, whatever was forgotten to be given back', () => {
		const world = full();
		const [lost, born] = [world.open.get('a7'), world.open.get('a8')];
		world.clock.advance(2 * IDLE_MS);
		Object.assign(lost ?? {}, { members: 0, leftBelow: true });
		// Its next program is about to be forked.
		const late = world.groups.take({ group: 'a8', allow: NEW });
		Object.assign(born ?? {}, { members: 0 });
		world.groups.take({ group: 'more', allow: NEW });
		expect([world.open.has('a7'), world.open.has('a8'), world.open.has('more')]).toEqual([false, true, true]);
		late.release();
	});

	test('a place of a group that gave way is given back to nobody', () => {
		const world = new Groups();
		const place = world.groups.take({ group: 'a', allow: NEW });
		world.clock.advance(2 * IDLE_MS);
		for (let number = 0; number < 63; number += 1) world.groups.take({ group: `b${number}`, allow: NEW });
		world.groups.take({ group: 'c', allow: NEW });
		expect(world.open.has('a')).toBe(false);
		world.groups.take({ group: 'b0', allow: NEW });
		place.release();
		world.clock.advance(2 * IDLE_MS);
		expect(world.open.has('c')).toBe(true);
	});
});
