import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { NodeEntry } from '../../control-plane/app/telemetry/directory.ts';
import { fixtureFrame, fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { identitiesOf } from '../../control-plane/app/telemetry/identities.ts';
import { TelemetryIngest } from '../../control-plane/app/telemetry/ingest.ts';
import { TELEMETRY_LIMITS_DEFAULT } from '../../control-plane/app/telemetry/limits.ts';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import {
	InventorySchema,
	PartSampleSchema,
	type TelemetryFrame,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA } from '../../proto/telemetry-schema/schemas.ts';
import { eventually } from '../eventually.ts';
import { startWorld, type World } from './link-world.ts';
import { RawLink } from './raw-link.ts';

/**
 * An enrolled agent that sends nonsense over a real link: each kind is refused by its reason, costs that frame or value and
 * not the session, and an honest agent beside it is heard all the while.
 */
const GPUS = 2;
let world: World;
let address: string;
let ingest: TelemetryIngest;
let bad: Agent;
let honest: Agent;

class Agent {
	readonly id: string;
	readonly link: RawLink;
	readonly number: number;
	#facts = 0n;

	constructor(id: string, link: RawLink, number: number) {
		this.id = id;
		this.link = link;
		this.number = number;
	}

	frame(spoil: (frame: TelemetryFrame) => unknown = () => {}): TelemetryFrame {
		const frame = fixtureFrame({ atMs: systemClock.now(), gpus: GPUS, node: this.number });
		spoil(frame);
		return frame;
	}

	say(frame = this.frame()): void {
		this.link.send({ case: 'telemetry', value: frame });
	}

	/** What is sent before a fact was judged when the fact is acknowledged: the stream is in order. */
	async settled(): Promise<void> {
		this.#facts += 1n;
		const seq = this.#facts;
		this.link.fact(seq);
		await eventually('it is acknowledged', () => this.link.factAck() >= seq);
	}
}

beforeAll(async () => {
	world = await startWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

beforeEach(async () => {
	const entries = new Map<string, NodeEntry>();
	const directory = { get: (id: string) => entries.get(id), onChange: () => () => {} };
	ingest = new TelemetryIngest({ clock: systemClock, log: silentLogger, directory, limits: TELEMETRY_LIMITS_DEFAULT });
	const gateway = await world.startGateway({ ingestTelemetry: ingest.ingest });
	address = `127.0.0.1:${gateway.port}`;
	const connect = async (number: number) => {
		const identity = await world.enroll();
		const node = { id: identity.nodeId, name: `n${number}`, hostname: '', generation: 1, labels: {}, bootId: '' };
		const inventory = toBinary(InventorySchema, fixtureInventory({ gpus: GPUS, node: number }));
		entries.set(node.id, {
			node: { ...node, custody: 'platform' },
			assignments: [],
			identities: identitiesOf(inventory),
		});
		const link = new RawLink(new GrpcTransport(systemClock), identity, address).hello();
		await link.welcomed();
		return new Agent(identity.nodeId, link, number);
	};
	[bad, honest] = [await connect(1), await connect(2)];
	return () => {
		for (const { link } of [bad, honest]) link.close();
	};
});

const refused = () => Object.fromEntries(ingest.refused);
const HEAT = CURRENT_SCHEMA.gpu.findIndex(({ key }) => key === 'temperature.gpu');

/** Both are heard: the one whose frames were bad before, too. */
async function bothAreHeard(): Promise<void> {
	for (const agent of [bad, honest]) {
		const before = ingest.latest.get(agent.id);
		await eventually('a good frame is taken', async () => {
			agent.say();
			await agent.settled();
			return ingest.latest.get(agent.id) !== before;
		});
		expect(agent.link.end).toBeUndefined();
	}
}

const FRAMES: readonly (readonly [reason: string, spoil: (frame: TelemetryFrame) => unknown])[] = [
	['schema_unknown', (frame) => Object.assign(frame, { schema: 77 })],
	['values_length', (frame) => frame.values.pop()],
	['timestamp_missing', (frame) => Object.assign(frame, { at: undefined })],
	['timestamp_future', (frame) => Object.assign(frame, { at: timestampFromMs(systemClock.now() + 3_600_000) })],
	['timestamp_ancient', (frame) => Object.assign(frame, { at: timestampFromMs(0) })],
];

test.each(FRAMES)('a frame is refused as %s, and the next good one is taken', async (reason, spoil) => {
	bad.say(bad.frame(spoil));
	await bad.settled();
	expect(refused()).toEqual({ [`frame/${reason}`]: 1 });
	expect(ingest.latest.get(bad.id)).toBeUndefined();
	await bothAreHeard();
});

test('a frame of another node’s GPUs is its sender’s own: what it claims becomes no value of the other', async () => {
	honest.say();
	await honest.settled();
	const before = ingest.latest.get(honest.id);
	bad.say(
		honest.frame(({ gpus }) => {
			for (const { values } of gpus) values[HEAT] = 99;
		}),
	);
	await bad.settled();
	expect(ingest.latest.get(honest.id)).toBe(before);
	expect(ingest.latest.get(bad.id)?.nodeId).toBe(bad.id);
	await bothAreHeard();
});

test('NaN is absent; what no hardware can measure is left out alone and counted', async () => {
	bad.say(
		bad.frame(({ gpus: [first, second] }) => {
			if (first === undefined || second === undefined) return;
			[first.values[HEAT], second.values[HEAT]] = [Number.POSITIVE_INFINITY, 1e9];
			[first.values[HEAT + 1], second.values[HEAT + 1]] = [Number.NaN, Number.NEGATIVE_INFINITY];
		}),
	);
	await bad.settled();
	expect(refused()).toEqual({ 'value/not_finite': 2, 'value/absurd': 1 });
	const rows = ingest.latest.get(bad.id)?.rows.gpu ?? [];
	expect(rows.map(({ values }) => [values[HEAT], values[HEAT + 1]])).toEqual([
		[Number.NaN, Number.NaN],
		[Number.NaN, Number.NaN],
	]);
	await bothAreHeard();
});

test('a hundred times the rate: what is beyond is refused, and neither its facts nor another’s frames wait for it', async () => {
	const many = TELEMETRY_LIMITS_DEFAULT.framesPerSecondMax * 100;
	const frame = bad.frame();
	for (let sent = 0; sent < many; sent += 1) {
		bad.say(frame);
		if (sent % 50 === 0) await bothSettle();
	}
	await bothSettle();
	const { 'frame/rate': beyond = 0, ...others } = refused();
	expect(others).toEqual({});
	expect(beyond).toBeGreaterThan(many / 2);
	expect(ingest.accepted).toBeGreaterThan(TELEMETRY_LIMITS_DEFAULT.framesBurstMax);
	await bothAreHeard();
});

const bothSettle = async () => {
	honest.say();
	await Promise.all([bad.settled(), honest.settled()]);
	expect(ingest.latest.get(honest.id)).toBeDefined();
};

test('ten thousand invented things: few become series, the rest is counted', async () => {
	const width = CURRENT_SCHEMA.disk.length;
	const values = new Array<number>(width).fill(1);
	for (let batch = 0; batch < 10; batch += 1)
		bad.say(
			bad.frame((frame) => {
				frame.disks = Array.from({ length: 1000 }, (_, index) =>
					create(PartSampleSchema, { id: `made-up-${batch}-${index}`, values }),
				);
			}),
		);
	await bad.settled();
	const counted = Object.entries(refused()).filter(([reason]) => /^row\/(id_unknown|series_limit)$/.test(reason));
	const left = counted.reduce((sum, [, count]) => sum + count, 0);
	expect(left).toBeGreaterThan(10_000 - 10 * TELEMETRY_LIMITS_DEFAULT.strangeIdsPerHourMax);
	expect(ingest.latest.get(bad.id)?.rows.disk.length).toBeLessThanOrEqual(
		TELEMETRY_LIMITS_DEFAULT.strangeIdsPerHourMax,
	);
	await bothAreHeard();
});
