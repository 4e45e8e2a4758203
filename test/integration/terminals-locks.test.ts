import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Relay } from '../../control-plane/app/terminals/relay.ts';
import { relayHooks } from '../../control-plane/app/terminals/relay-hooks.ts';
import { Viewer } from '../../control-plane/app/terminals/viewer.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { TerminalReconciler } from '../../control-plane/reconcilers/terminals.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import type { Tx } from '../../control-plane/store/port/store.ts';
import type { TerminalRow } from '../../control-plane/store/port/terminals.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { ChannelHelloSchema, ChannelRequestSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { Stream } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { AttachMode, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { underPolicy } from './lock-order.ts';

/** What ends a terminal that is open: every lock, each within a second, with the reason that people are shown. */
let world: ApiWorld;
let reconciler: TerminalReconciler;

beforeAll(async () => {
	world = await ApiWorld.start();
	reconciler = new TerminalReconciler(world.deps);
});

afterAll(async () => {
	reconciler[Symbol.dispose]();
	await world[Symbol.asyncDispose]();
});

interface Open {
	readonly row: TerminalRow;
	readonly node: NodeRow;
	readonly key: string;
	readonly principalId: string;
	readonly credentialId: string;
}

/** A terminal that an operator of their own has open, on a node of its own. */
async function open(patch: Partial<TerminalRow> = {}): Promise<Open> {
	const node = await world.addNode();
	const key = await world.addPrincipal('user', 'platform.operator', 'platform');
	const credentialId = present(/^gpu_uk_[a-z0-9]+_([^_]+)_/.exec(key)?.[1], 'a key');
	const principalId = `principal-${credentialId}`;
	const nowMs = systemClock.now();
	const row: TerminalRow = {
		id: uuidv7(nowMs, systemRng),
		nodeId: node.id,
		kind: 'shell',
		tty: true,
		state: 'open',
		permission: 'terminals.open',
		command: '',
		createdBy: principalId,
		createdByName: 'somebody',
		credentialId,
		account: 'nobody',
		purpose: '',
		createdAtMs: nowMs,
		openedAtMs: nowMs,
		closedAtMs: null,
		detachedAtMs: null,
		expiresAtMs: nowMs + 3_600_000,
		graceMs: 60_000,
		idleMs: 0,
		exitCode: null,
		signal: null,
		reason: '',
		message: '',
		custody: 'platform',
		assignmentId: null,
		organization: null,
		project: null,
		generation: 1,
		correlationId: 'c',
		...patch,
	};
	await world.deps.store.unit((tx) => tx.terminals.insert(row));
	return { row, node, key, principalId, credentialId };
}

async function reasonOf({ row }: Open): Promise<string> {
	return await eventually('it is ended', async () => {
		const now = await world.deps.store.read((tx) => tx.terminals.get(row.id));
		return now?.state === 'closed' && now.reason;
	});
}

async function stillOpen({ row }: Open): Promise<boolean> {
	await reconciler.runOnce();
	return (await world.deps.store.read((tx) => tx.terminals.get(row.id)))?.state === 'open';
}

const change = (plan: (tx: Tx) => Plan<unknown>) => world.deps.store.unit(underPolicy(plan));

describe('a terminal is ended by', () => {
	const locks: readonly [string, (terminal: Open) => Promise<unknown>][] = [
		[
			'PRINCIPAL_DISABLED',
			({ principalId }) => change((tx) => tx.identities.updatePrincipal(principalId, { disabledAtMs: 1 })),
		],
		['CREDENTIAL_REVOKED', ({ credentialId }) => change((tx) => tx.apiKeys.revokeCredential(credentialId, 1))],
		[
			'ACCESS_REMOVED',
			({ principalId }) =>
				change(function* (tx) {
					for (const { id } of yield* tx.access.listBindings([principalId])) yield* tx.access.deleteBinding(id);
				}),
		],
		['NODE_LOCKED', ({ node }) => change((tx) => tx.nodes.update(node.id, { locked: true }))],
		['NODE_REMOVED', ({ node }) => change((tx) => tx.nodes.update(node.id, { state: 'retired' }))],
		['STALE_GENERATION', ({ node }) => change((tx) => tx.nodes.update(node.id, { generation: 2 }))],
		['NODE_IN_TENANT_CUSTODY', ({ node }) => change((tx) => tx.nodes.update(node.id, { custody: 'tenant' }))],
	];
	for (const [reason, lock] of locks)
		test(reason, async () => {
			const terminal = await open();
			expect(await stillOpen(terminal)).toBe(true);
			await lock(terminal);
			expect(await reasonOf(terminal)).toBe(reason);
		});

	test('its times: too long, abandoned, never answered', async () => {
		const nowMs = systemClock.now();
		expect(await reasonOf(await open({ expiresAtMs: nowMs - 1 }))).toBe('TERMINAL_TOO_LONG');
		expect(await reasonOf(await open({ detachedAtMs: nowMs - 60_001 }))).toBe('TERMINAL_ABANDONED');
		const unanswered = await open({ state: 'opening', createdAtMs: nowMs - 15_001, openedAtMs: null });
		expect(await reasonOf(unanswered)).toBe('TERMINAL_UNANSWERED');
	});
});

test('what an ended program left is kept for as long as a command tries to come back, not for as long as a shell', async () => {
	const left = { tty: false, detachedAtMs: systemClock.now() - 600_001, graceMs: 3_600_000 };
	const [runs, terminal] = [await open(left), await open(left)];
	const hooks = { onWatched: () => {}, onEnded: async () => {}, log: silentLogger };
	const relay = world.deps.terminals.open(terminal.row, hooks);
	relay.attach(readerOf(relay), undefined, undefined);
	const node = relay.connectNode(create(ChannelHelloSchema, {}), { send: () => {}, end: () => {} });
	const say = (message: NonNullable<MessageInitShape<typeof ChannelRequestSchema>['message']>) =>
		node.onFrame(create(ChannelRequestSchema, { message }).message);
	say({ case: 'output', value: { stream: Stream.STDOUT, data: Buffer.from('answer') } });
	say({ case: 'end', value: { reason: 'TERMINAL_EXITED', exitCode: 0 } });
	for (const reader of relay.viewers) relay.detach(reader);
	expect(relay.isLeftover).toBe(true);
	expect(await reasonOf(terminal)).toBe('TERMINAL_ABANDONED');
	expect(await stillOpen(runs)).toBe(true);
});

function readerOf(relay: Relay): Viewer {
	return new Viewer({
		principalId: 'p',
		name: 'Ada',
		mode: 'control',
		hasScreen: false,
		isPulled: false,
		acknowledges: true,
		now: relay.now,
		onProgress: relay.onProgress,
	});
}

test('whoever is attached reads the reason, and the end is in the audit log', async () => {
	const terminal = await open();
	const relay: Relay = world.deps.terminals.open(terminal.row, {
		onWatched: () => {},
		onEnded: async () => {},
		log: silentLogger,
	});
	expect(relay).toBeInstanceOf(Relay);
	const client = world.client(TerminalService, terminal.key);
	const ends: string[] = [];
	const looking = (async () => {
		for await (const { message } of client.observeTerminal({ terminalId: terminal.row.id }))
			if (message.case === 'end') ends.push(message.value.reason);
	})();
	await eventually('somebody looks on', () => relay.viewers.size === 1);
	await change((tx) => tx.nodes.update(terminal.node.id, { locked: true }));
	await looking;
	expect(ends).toEqual(['NODE_LOCKED']);
	// They are told before it is written down.
	const about = await eventually('its end is written down', async () => {
		const found = (await world.audit()).filter(({ target }) => target === `terminals/${terminal.row.id}`);
		return found.length > 1 && found;
	});
	expect(about.map(({ action, reason }) => [action, reason])).toEqual([
		['terminals.observe', ''],
		['terminals.end', 'NODE_LOCKED'],
	]);
});

test('whoever ends one is in the audit log, and their name and reason are what the others read', async () => {
	const terminal = await open();
	const hooks = { onWatched: () => {}, onEnded: async () => {}, log: silentLogger };
	const relay = world.deps.terminals.open(terminal.row, hooks);
	const client = world.client(TerminalService, terminal.key);
	await client.killTerminal({ terminalId: terminal.row.id, reason: 'the test is over' });
	expect(relay.ended).toMatchObject({
		reason: 'TERMINAL_KILLED',
		message: expect.stringMatching(/: the test is over$/),
	});
	const records = await world.audit();
	expect(records.filter(({ target }) => target === `terminals/${terminal.row.id}`)).toMatchObject([
		{ action: 'terminals.kill', actor: { id: terminal.principalId }, result: 'ok' },
	]);
});

test('a stranger, and a colleague whom nobody let in, are refused apart', async () => {
	const terminal = await open();
	const stranger = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train');
	const colleague = await world.addPrincipal('user', 'platform.operator', 'platform');
	const kill = (key: string) => world.client(TerminalService, key).getTerminal({ terminalId: terminal.row.id });
	await expect(kill(stranger)).rejects.toThrow(/no such terminal/);
	await expect(kill(colleague)).resolves.toBeDefined();
	const look = async () => {
		const client = world.client(TerminalService, colleague);
		for await (const _ of client.observeTerminal({ terminalId: terminal.row.id })) return;
	};
	await expect(look()).rejects.toThrow(/has not shared it/);
});

test('a lock ends all that it concerns before anything is written down, and a store that fails holds up none', async () => {
	reconciler[Symbol.dispose]();
	const terminals = [await open(), await open(), await open()];
	const hooks = { onWatched: () => {}, onEnded: async () => {}, log: silentLogger };
	const relays = terminals.map(({ row }) => world.deps.terminals.open(row, hooks));
	for (const { node } of terminals) await change((tx) => tx.nodes.update(node.id, { locked: true }));
	const { store } = world.deps;
	const allEnded: boolean[] = [];
	const away = Object.assign(Object.create(store) as typeof store, {
		read: store.read.bind(store),
		unit: () => {
			allEnded.push(relays.every(({ ended }) => ended?.reason === 'NODE_LOCKED'));
			return Promise.reject(new Error('the store is away'));
		},
	});
	using failing = new TerminalReconciler({ ...world.deps, store: away });
	await failing.runOnce();
	expect(allEnded.length).toBeGreaterThanOrEqual(3);
	expect(allEnded).not.toContain(false);
	failing[Symbol.dispose]();
	reconciler = new TerminalReconciler(world.deps);
	for (const terminal of terminals) expect(await reasonOf(terminal)).toBe('NODE_LOCKED');
	await reconciler.runOnce();
	expect(terminals.map(({ row }) => world.deps.terminals.get(row.id))).toEqual([undefined, undefined, undefined]);
});

test('a lock whose hint is lost ends what it concerns within a second of the clock; one whose hint comes, without any', async () => {
	reconciler[Symbol.dispose]();
	const clock = new VirtualClock(systemClock.now());
	const deaf = new InProcessBus();
	using watching = new TerminalReconciler({ ...world.deps, clock, bus: deaf });
	const first = await open();
	await watching.runOnce();
	await change((tx) => tx.nodes.update(first.node.id, { locked: true }));
	// No hint: what ends it is the clock, by a second and no more.
	clock.advance(1000);
	expect(await reasonOf(first)).toBe('NODE_LOCKED');
	const second = await open();
	await change((tx) => tx.nodes.update(second.node.id, { locked: true }));
	deaf.publish({ topic: 'nodes.changed', key: second.node.id });
	expect(await reasonOf(second)).toBe('NODE_LOCKED');
	watching[Symbol.dispose]();
	reconciler = new TerminalReconciler(world.deps);
});

test('one whose program has ended leaves nothing here once that is kept, and its node may forget it', async () => {
	const { row } = await open();
	const relay = world.deps.terminals.open(row, relayHooks(world.deps, row));
	const told: unknown[] = [];
	const node = relay.connectNode(create(ChannelHelloSchema), {
		send: (message) => told.push(message.case),
		end: () => {},
	});
	const end = { reason: 'TERMINAL_EXITED', message: '', exitCode: 3 };
	node.onFrame(create(ChannelRequestSchema, { message: { case: 'end', value: end } }).message);
	await eventually('the node may forget it', () => told.includes('forget'));
	expect(world.deps.terminals.get(row.id)).toBeUndefined();
	expect(await world.deps.store.read((tx) => tx.terminals.get(row.id))).toMatchObject({
		state: 'closed',
		reason: 'TERMINAL_EXITED',
		exitCode: 3,
	});
});

test('that nobody is attached since a crash is kept, and that somebody came back', async () => {
	const terminal = await open();
	const detachedAtMs = async () =>
		(await world.deps.store.read((tx) => tx.terminals.get(terminal.row.id)))?.detachedAtMs;
	await eventually('the grace has begun', async () => (await detachedAtMs()) !== null);
	const client = world.client(TerminalService, terminal.key);
	const stop = new AbortController();
	const looking = (async () => {
		for await (const _ of client.observeTerminal({ terminalId: terminal.row.id }, { signal: stop.signal }));
	})();
	await eventually('somebody is there', async () => (await detachedAtMs()) === null);
	await reconciler.runOnce();
	expect(await detachedAtMs()).toBeNull();
	stop.abort();
	await expect(looking).rejects.toThrow();
});

test('a share is for those who may see the terminal: of others one does not learn that they exist', async () => {
	const terminal = await open({ organization: 'acme', project: 'train' });
	const idOf = (key: string) => `principal-${present(/^gpu_uk_[a-z0-9]+_([^_]+)_/.exec(key)?.[1], 'a key')}`;
	const stranger = idOf(await world.addPrincipal('user', 'tenant.developer', 'organizations/rival/projects/train'));
	const colleague = idOf(await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train'));
	const client = world.client(TerminalService, terminal.key);
	const share = async (principalId: string) =>
		await client
			.shareTerminal({ terminalId: terminal.row.id, principalId, mode: AttachMode.OBSERVE })
			.then(() => 'shared')
			.catch((error: unknown) => String(error));
	expect(await share(stranger)).toMatch(/no principal/);
	expect(await share(stranger)).toBe(await share('principal-nobody'));
	expect(await share(colleague)).toBe('shared');
});
