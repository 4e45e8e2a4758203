import type { ClientRequest, IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { fixtureFrame, fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { rawCall } from './raw-api.ts';

/**
 * The turns of a project's page over real sockets: a page is made no further once its caller has gone, and counts until
 * its answer has left. One page of a project at once, so that the second shows what the first holds.
 */
const PATH = '/metrics/projects/acme/train';
/** More than sockets of one machine take without a reader. */
const UNREAD_BYTES = 16 * 1024 * 1024;
const FIXTURE = { gpus: 40 };
const NODES = 20;
/** Longer than anything here waits for. */
const LONG_MS = 20_000;

/** The system's, with two things in the test's hands. */
class HeldClock implements Clock {
	readonly now = systemClock.now;
	readonly monotonic = systemClock.monotonic;
	/** What is to be put off: asked at each call. */
	holds = () => false;
	readonly held: (() => void)[] = [];
	/** Ends of the time that whoever reads slowly is given (`left` in api/metrics-page.ts). */
	readonly slowReaders = new Set<() => void>();

	setTimer(callback: () => void, delayMs: number) {
		if (delayMs < LONG_MS) return systemClock.setTimer(callback, delayMs);
		// By who sets it: deadlines of calls last as long, and never come here: they would end the turn, too.
		if (/^ *at left \(/m.test(new Error().stack ?? '')) this.slowReaders.add(callback);
		return { cancel: () => void this.slowReaders.delete(callback) };
	}

	defer(callback: () => void): void {
		if (this.holds()) this.held.push(callback);
		else systemClock.defer(callback);
	}
}

const clock = new HeldClock();
let world: ApiWorld;
let key: string;
/** Nodes whose part of a page was made. */
let made: { readonly mock: { readonly calls: readonly unknown[] } };

beforeAll(async () => {
	const telemetryLimits = {
		...{ projectPagesAtOncePerProjectMax: 1, projectPagesPerSecondMax: 1e6, projectPagesBurstMax: 1e6 },
		projectPageCharactersMax: 64 * 1024 * 1024,
	};
	world = await ApiWorld.start({ clock, telemetryLimits });
	key = await world.addPrincipal('service_account', 'tenant.viewer', 'organizations/acme/projects/train');
	const { directory, ingest } = world.deps.telemetry;
	for (let number = 0; number < NODES; number += 1) {
		const { id: nodeId } = await world.addNode();
		const atMs = systemClock.now();
		const own = { ...FIXTURE, node: number };
		const inventory = toBinary(InventorySchema, fixtureInventory(own));
		const id = uuidv7(atMs, systemRng);
		await world.deps.store.unit(function* (tx) {
			yield* tx.inventories.put({ nodeId, custody: 'platform', digest: 'd', inventory, receivedAtMs: atMs });
			const project = { organization: 'acme', project: 'train' };
			yield* tx.assignments.insert({
				...{ id, nodeId, sliceId: '', mode: 'host', ...project, generation: 1, fromMs: atMs, untilMs: null },
			});
		});
		world.deps.bus.publish({ topic: 'nodes.inventory', key: nodeId });
		await eventually('its inventory is known', () => directory.get(nodeId)?.identities !== undefined);
		ingest.ingest(nodeId, fixtureFrame({ atMs: systemClock.now(), ...own }));
	}
});
afterAll(() => world[Symbol.asyncDispose]());
beforeEach(() => {
	made = vi.spyOn(world.deps.telemetry.latest, 'fresh');
});

interface Scrape {
	readonly sent: ClientRequest;
	readonly response: Promise<IncomingMessage>;
}

/** Of whoever reads nothing of the body. */
function scrape(): Scrape {
	const { promise: response, resolve } = Promise.withResolvers<IncomingMessage>();
	const { port } = world.server.address;
	const headers = { authorization: `Bearer ${key}` };
	const sent = request({ host: '127.0.0.1', port, path: PATH, headers, ca: world.rootPem, agent: false }, resolve);
	sent.on('error', () => undefined);
	sent.end();
	return { sent, response };
}

/** Its answer has begun, and nobody reads it. */
async function scrapeUnread(): Promise<Scrape> {
	return await eventually('an answer has begun', async () => {
		const one = scrape();
		const response = await one.response;
		response.pause();
		if (response.statusCode === 200) return one;
		// The turn before is over when its connection is: a moment after its reader has all.
		one.sent.destroy();
		return false;
	});
}

const small = () => rawCall(world, { path: `${PATH}?shard=0&of=1000`, key, method: 'GET', body: '' });
const refusal = { status: 429, body: expect.anything() };

test('a page whose caller has gone is made no further, and its turn is over at once', async () => {
	clock.holds = () => made.mock.calls.length === 4 && clock.held.length === 0;
	const { sent } = scrape();
	await eventually('it is in the middle', () => clock.held.length === 1);
	expect(await small()).toMatchObject(refusal);
	sent.destroy();
	await eventually('the turn is over', async () => (await small()).status === 200);
	const before = made.mock.calls.length;
	clock.holds = () => false;
	for (const go of clock.held.splice(0)) go();
	// Whatever it would still do would be done before a whole other page is.
	const whole = await eventually('a whole page', async () => {
		const answer = await rawCall(world, { path: PATH, key, method: 'GET', body: '' });
		return answer.status === 200 && answer;
	});
	expect(whole.body.length).toBeGreaterThan(UNREAD_BYTES);
	expect(made.mock.calls.length - before).toBe(NODES);
});

test('a page counts until its answer has left: who does not read it holds the turn, until they go', async () => {
	const { sent } = await scrapeUnread();
	expect(await small()).toMatchObject(refusal);
	expect((await small()).body.toString()).toMatch(/^RATE_LIMITED: 1 pages of this project are being made or sent/);
	sent.destroy();
	await eventually('the turn is over', async () => (await small()).status === 200);
});

test('who reads slowly holds it for a while, not for ever', async () => {
	const { sent } = await scrapeUnread();
	expect(await small()).toMatchObject(refusal);
	expect(sent.destroyed).toBe(false);
	expect(clock.slowReaders.size).toBe(1);
	for (const end of [...clock.slowReaders]) end();
	await eventually('the turn is over', async () => (await small()).status === 200);
	expect(sent.destroyed).toBe(false);
	sent.destroy();
});
