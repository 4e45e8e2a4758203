import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import {
	HealthSource,
	HealthSubjectKind,
	HealthFactKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { type HealthFactInit, HealthFacts } from './health-facts.ts';
import { sampleIbPorts } from './ib-ports.ts';
import { type Level, LevelWatch, usualOf } from './level-watch.ts';
import { portRateLevels } from './levels.ts';

const MODEL = 'NVIDIA H100 NVL';

/** What is kept outlives the watch, as the journal outlives the agent. */
function agents(journal = { isFull: false }) {
	let kept: string | undefined;
	return (passMs = 61_000) => {
		const clock = new VirtualClock();
		const sent: HealthFactInit[] = [];
		const append = (fact: HealthFactInit) => {
			if (journal.isFull) throw new Error('the disk is full');
			sent.push(fact);
		};
		const watch = new LevelWatch({
			facts: new HealthFacts({ clock, log: silentLogger, bootId: 'b', append, isSimulated: () => false }),
			kind: Kind.NVLINK_COUNT,
			subject: HealthSubjectKind.GPU,
			source: HealthSource.NVML,
			kept: {
				get: () => kept,
				put: (value) => {
					kept = value;
				},
			},
		});
		return (...levels: readonly Level[]) => {
			sent.length = 0;
			watch.observe(levels);
			clock.advance(passMs);
			return sent.map(({ subject, before, after, ongoing }) => [subject?.id, before, after, ongoing]);
		};
	};
}

const gpu = (id: string, value: number, isShort = false): Level => ({
	...{ id, index: 0, code: MODEL, value, isShort },
	raw: `${value} links`,
});

describe('a level', () => {
	it('is told once, whatever it is, since the policy may know that there should be more', () => {
		const look = agents()();
		expect(look(gpu('a', 12))).toEqual([['a', 12, 12, true]]);
		expect(look(gpu('a', 12))).toEqual([]);
	});

	it('that falls is measured by what it was, and is well when it is back', () => {
		const look = agents()();
		look(gpu('a', 12));
		expect(look(gpu('a', 11))).toEqual([['a', 12, 11, false]]);
		expect(look(gpu('a', 11))).toEqual([]);
		expect(look(gpu('a', 12))).toEqual([['a', 12, 12, false]]);
	});

	it('is measured by its own history also by the next agent, which tells each once', () => {
		const start = agents();
		const look = start();
		look(gpu('a', 12), gpu('b', 12));
		look(gpu('a', 10), gpu('b', 12));
		const next = start();
		expect(next(gpu('a', 10), gpu('b', 12))).toEqual([
			['a', 12, 10, true],
			['b', 12, 12, true],
		]);
		expect(next(gpu('a', 10), gpu('b', 12))).toEqual([]);
	});

	it('that was well again within the minute is said to be by the next agent, if this one ended before it could', () => {
		const start = agents();
		const look = start(25_000);
		for (let times = 0; times < 3; times += 1) look(gpu('a', 12));
		expect(look(gpu('a', 11))).toEqual([['a', 12, 11, false]]);
		// Counted, and lost with the agent.
		expect(look(gpu('a', 12))).toEqual([]);
		expect(start()(gpu('a', 12))).toEqual([['a', 12, 12, true]]);
	});

	it('that the journal did not take is told again until it does', () => {
		const journal = { isFull: false };
		const look = agents(journal)();
		look(gpu('a', 12));
		journal.isFull = true;
		expect(look(gpu('a', 11))).toEqual([]);
		journal.isFull = false;
		expect(look(gpu('a', 11))).toEqual([['a', 12, 11, false]]);
		expect(look(gpu('a', 11))).toEqual([]);
	});

	it('that is short by its own word is told by each agent: who judges may know what should be', () => {
		const start = agents();
		start()(gpu('a', 10, true));
		expect(start()(gpu('a', 10, true))).toEqual([['a', 10, 10, true]]);
	});

	it('is measured by what nearly all of its kind have, and by nothing where they differ', () => {
		const look = agents()();
		expect(look(gpu('a', 10), gpu('b', 12), gpu('c', 12), gpu('d', 12))).toContainEqual(['a', 12, 10, true]);
		// Pairs with a bridge beside single cards.
		expect(agents()()(gpu('a', 0), gpu('b', 0), gpu('c', 12), gpu('d', 12))).toContainEqual(['a', 0, 0, true]);
		expect(agents()()(gpu('a', 0), { ...gpu('b', 18), code: 'NVIDIA H200' })).toContainEqual(['a', 0, 0, true]);
	});

	it('survives a journal that has nonsense', () => {
		const watch = (kept: string) =>
			new LevelWatch({
				facts: new HealthFacts({
					...{ clock: new VirtualClock(), log: silentLogger, bootId: 'b', isSimulated: () => false },
					append: () => undefined,
				}),
				...{ kind: Kind.NVLINK_COUNT, subject: HealthSubjectKind.GPU, source: HealthSource.NVML },
				kept: { get: () => kept, put: () => undefined },
			});
		for (const kept of ['{', '7', '[["a"]]', '[["a",null],null]', '{"a":1}', '[["a/0",{"best":"x"}]]'])
			expect(() => watch(kept).observe([gpu('a', 1)]), kept).not.toThrow();
	});
});

it('what is usual needs three, and three of four of them', () => {
	expect(usualOf([8, 8])).toBeUndefined();
	expect(usualOf([8, 8, 8])).toBe(8);
	expect(usualOf([4, 8, 8])).toBeUndefined();
	expect(usualOf([4, 8, 8, 8])).toBe(8);
	expect(usualOf([])).toBeUndefined();
});

describe('ports of /sys', () => {
	let root: string;
	beforeEach(() => {
		root = mkdtempSync(join(tmpdir(), 'ports-'));
	});
	afterEach(() => rmSync(root, { recursive: true, force: true }));

	function port(device: string, rate: string, state = '4: ACTIVE', layer = 'InfiniBand', board = 'MT_0000000838') {
		const folder = `class/infiniband/${device}`;
		const files = {
			[`${folder}/board_id`]: board,
			[`${folder}/ports/1/state`]: state,
			[`${folder}/ports/1/rate`]: rate,
			[`${folder}/ports/1/link_layer`]: layer,
		};
		for (const [path, text] of Object.entries(files)) {
			mkdirSync(dirname(join(root, path)), { recursive: true });
			writeFileSync(join(root, path), `${text}\n`);
		}
	}

	it('have a speed by board while they are active; Ethernet of the same board is another kind', () => {
		port('mlx5_0', '400 Gb/sec (4X NDR)');
		port('mlx5_1', '10 Gb/sec (4X SDR)', '1: DOWN');
		port('mlx5_2', '200 Gb/sec (4X HDR)', '4: ACTIVE', 'Ethernet');
		expect(portRateLevels(root, sampleIbPorts(root))).toEqual([
			{
				...{ id: 'mlx5_0', index: 1, code: 'MT_0000000838', value: 50e9, isShort: false },
				raw: 'the port runs at 400 Gb/s',
			},
			{
				...{ id: 'mlx5_2', index: 1, code: 'MT_0000000838:ethernet', value: 25e9, isShort: false },
				raw: 'the port runs at 200 Gb/s',
			},
		]);
	});

	it('of which one is at half of what its siblings run at is low, though it never was faster', () => {
		for (const n of [0, 1, 2, 3, 4, 5, 6]) port(`mlx5_${n}`, '400 Gb/sec (4X NDR)');
		port('mlx5_7', '200 Gb/sec (2X NDR)');
		const look = agents()();
		const told = look(...portRateLevels(root, sampleIbPorts(root)));
		expect(told.filter(([, before, after]) => before !== after)).toEqual([['mlx5_7', 50e9, 25e9, true]]);
	});

	it('say when siblings alone are the measure, and not when it is what the port had', () => {
		for (const n of [0, 1, 2]) port(`mlx5_${n}`, '400 Gb/sec (4X NDR)');
		port('mlx5_3', '200 Gb/sec (2X NDR)');
		const lines: (string | undefined)[] = [];
		const facts = new HealthFacts({
			...{ clock: new VirtualClock(), log: silentLogger, bootId: 'b', isSimulated: () => false },
			append: ({ raw, subject, before, after }) => {
				if (before !== after) lines.push(`${subject?.id}: ${raw}`);
			},
		});
		const watch = new LevelWatch({
			...{ facts, kind: Kind.IB_PORT_RATE, subject: HealthSubjectKind.NIC, source: HealthSource.SYSFS },
			kept: { get: () => '[["mlx5_0/1",{"best":50000000000}]]', put: () => undefined },
		});
		watch.observe(portRateLevels(root, sampleIbPorts(root)));
		expect(lines).toEqual(['mlx5_3: the port runs at 200 Gb/s; measured by its siblings alone']);
		port('mlx5_0', '100 Gb/sec (1X NDR)');
		for (const n of [1, 2, 4, 5]) port(`mlx5_${n}`, '400 Gb/sec (4X NDR)');
		const again = new LevelWatch({
			...{ facts: facts, kind: Kind.IB_PORT_RATE, subject: HealthSubjectKind.NIC, source: HealthSource.NVML },
			kept: { get: () => '[["mlx5_0/1",{"best":50000000000}]]', put: () => undefined },
		});
		again.observe(portRateLevels(root, sampleIbPorts(root)));
		expect(lines).toContain('mlx5_0: the port runs at 100 Gb/s');
	});

	it('that a host does not have have no level', () => {
		expect(portRateLevels(root, sampleIbPorts(root))).toEqual([]);
	});
});
