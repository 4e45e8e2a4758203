import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CallContext, CredentialKind } from '../../control-plane/app/iam/principal.ts';
import { loadActor, NO_LIMITS } from '../../control-plane/app/iam/principal.ts';
import { followTask } from '../../control-plane/app/tasks/follow.ts';
import { watchNodeTelemetry } from '../../control-plane/app/telemetry/watch-node.ts';
import { attachTerminal } from '../../control-plane/app/terminals/attach.ts';
import type { UseCaseDeps } from '../../control-plane/app/use-case.ts';
import { present } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { FollowTaskRequestSchema, TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { WatchNodeTelemetryRequestSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { AttachMode, AttachTerminalRequestSchema } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { idOf } from './iam-world.ts';
import { addTerminal } from './terminal-samples.ts';

/** What running streams do when the credential that they were begun with runs out; time is ours here. */
let world: ApiWorld;
let personId: string;
let deps: UseCaseDeps;
const clock = new VirtualClock(Date.parse('2026-11-26'));
const LIFE_MS = 60_000;

beforeAll(async () => {
	world = await ApiWorld.start();
	personId = idOf(await world.addPrincipal('user', 'platform.operator', 'platform'));
	deps = { ...world.deps, clock };
});
afterAll(() => world[Symbol.asyncDispose]());

async function caller(kind: CredentialKind): Promise<CallContext> {
	const actor = await deps.store.read(function* (tx) {
		const view = yield* deps.policies.committed(tx);
		const principal = present(yield* tx.identities.getPrincipal(personId), 'a person');
		const credential = { kind, id: 'c', expiresAtMs: clock.now() + LIFE_MS, limits: NO_LIMITS };
		return yield* loadActor(tx, view, principal, credential, clock.now());
	});
	return {
		actor,
		correlationId: uuidv7(clock.now(), deps.rng),
		method: 'test',
		requestId: '',
		peer: '',
		deadlineMs: Number.POSITIVE_INFINITY,
		signal: new AbortController().signal,
		log: silentLogger,
	};
}

/** Reads it all; the time passes meanwhile, a look at a time. */
async function endOf(events: AsyncIterable<unknown>): Promise<string> {
	let reason = '';
	const over = (async () => {
		for await (const _ of events);
		return 'ended by itself';
	})().catch((error: unknown) => GpuaasError.from(error).reason);
	void over.then((why) => {
		reason = why;
	});
	await eventually('its end', () => {
		clock.advance(1000);
		return reason !== '';
	});
	return reason;
}

async function openTerminal(): Promise<string> {
	const node = await world.addNode();
	return await addTerminal(world, node.id, personId, { state: 'open', closedAtMs: null, exitCode: null, reason: '' });
}

const attached = (ctx: CallContext, terminalId: string) => {
	const value = { mode: AttachMode.CONTROL };
	const requests = (async function* () {
		yield create(AttachTerminalRequestSchema, { terminalId, message: { case: 'attach', value } });
		await new Promise(() => {});
	})();
	return attachTerminal.run(deps, () => ctx, requests);
};

test.each([
	['api_key', 'UNAUTHENTICATED'],
	['access_token', 'ACCESS_TOKEN_EXPIRED'],
] as const)('%s: whoever follows a task is cut off when it expires', async (kind, reason) => {
	const node = await world.addNode();
	const spec = { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } };
	const { task } = await world.client(TaskService, world.operatorKey).createTask({ node: node.id, spec });
	const untilMs = clock.now() + LIFE_MS;
	const events = followTask.run(deps, await caller(kind), create(FollowTaskRequestSchema, { taskId: task?.id ?? '' }));
	expect(await endOf(events)).toBe(reason);
	expect(clock.now()).toBeGreaterThanOrEqual(untilMs);
});

test.each([
	['api_key', 'UNAUTHENTICATED'],
	['break_glass', 'BREAK_GLASS_INVALID'],
] as const)('%s: a terminal is left when it expires', async (kind, reason) => {
	const untilMs = clock.now() + LIFE_MS;
	expect(await endOf(attached(await caller(kind), await openTerminal()))).toBe(reason);
	expect(clock.now()).toBeGreaterThanOrEqual(untilMs);
});

test('a watcher of telemetry is out within a second of the end, though the node says nothing', async () => {
	const node = await world.addNode();
	const ctx = await caller('api_key');
	const request = create(WatchNodeTelemetryRequestSchema, { node: node.id });
	const events = watchNodeTelemetry.run(deps, ctx, request)[Symbol.asyncIterator]();
	clock.advance(LIFE_MS - 1);
	expect(await events.next()).toMatchObject({ done: false });
	const end = expect(events.next()).rejects.toMatchObject({ reason: 'UNAUTHENTICATED' });
	clock.advance(1000);
	await end;
});

test('a terminal outlives the token of whoever opened it, not their role', async () => {
	const ctx = await caller('access_token');
	const events = attached(ctx, await openTerminal());
	const untilMs = clock.now() + LIFE_MS;
	const end = endOf(events);
	await eventually('the token is over', () => clock.now() > untilMs + LIFE_MS);
	await deps.store.unit(function* (tx) {
		yield* tx.access.lockPolicy();
		for (const { id } of yield* tx.access.listBindings([personId])) yield* tx.access.deleteBinding(id);
	});
	expect(await end).toBe('ACCESS_REMOVED');
});
