import { create, toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import {
	ChannelGrantSchema,
	type ChannelRequest,
	type ChannelResponse,
	ChannelResponseSchema,
} from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { ClientListener, LinkConnection } from '../control/link-transport.ts';
import { MemoryJournal } from '../journal/memory.ts';
import type { PtyHost } from '../pty-host/pty-host.ts';
import { DeviceGuard } from '../tasks/device-guard.ts';
import { DENY_ALL } from '../tasks/policy.ts';
import { Terminals, type TerminalsDeps } from './terminals.ts';

const LIVE = '0198a1b2-0000-7000-8000-000000000001';
const OTHER = '0198a1b2-0000-7000-8000-000000000002';

test('an order that nothing proves is answered, and never in the place of a channel that lives', async () => {
	const sent: ChannelRequest['message'][] = [];
	let cancelled = 0;
	const connection = {
		channel: () => ({
			send: ({ message }: ChannelRequest) => {
				sent.push(message);
				return true;
			},
			end: () => {},
			cancel: () => {
				cancelled += 1;
			},
		}),
	} as unknown as LinkConnection;
	const offsets = { stdin: 0, stdout: 0, stderr: 0 };
	const host = { list: async () => [{ id: LIVE, user: 'jane', tty: true, offsets }] } as unknown as PtyHost;
	const clock = new VirtualClock();
	const terminals = new Terminals({
		clock,
		log: silentLogger,
		identity: { nodeId: OTHER, generation: 1, trustDomain: 'test', bundle: () => ({ taskSigners: [] }) },
		journal: new MemoryJournal(),
		policy: DENY_ALL,
		devices: new DeviceGuard({ clock, log: silentLogger, policy: DENY_ALL, read: () => [] }),
		platform: {},
		sendInventory: () => true,
	} as unknown as TerminalsDeps);
	terminals.setConnection(connection);
	await terminals.attachHost(host);
	const said = () =>
		sent.splice(0).map((message) => (message.case === 'hello' ? message.value.channelId : message.case));
	expect(said()).toEqual([LIVE]);
	const order = (channelId: string) => {
		const payload = toBinary(ChannelGrantSchema, create(ChannelGrantSchema, { channelId }));
		terminals.open({ grant: { payload, payloadType: '', signatures: [] } } as never);
	};
	order(LIVE);
	expect({ said: said(), cancelled }).toEqual({ said: [], cancelled: 0 });
	order(OTHER);
	expect(said()).toEqual([OTHER, 'end']);
});

test('an end that the journal has no room for takes nothing down, and is forgotten once it is recorded', async () => {
	const listeners: ClientListener<ChannelResponse>[] = [];
	let opened = 0;
	const connection = {
		channel: (listener: ClientListener<ChannelResponse>) => {
			opened += 1;
			listeners.push(listener);
			return { send: () => true, end: () => {}, cancel: () => {} };
		},
	} as unknown as LinkConnection;
	const clock = new VirtualClock();
	const journal = new MemoryJournal();
	const append = journal.appendFacts.bind(journal);
	let isFull = true;
	journal.appendFacts = (facts) => {
		if (isFull) throw new Error('database or disk is full');
		return append(facts);
	};
	const forgotten: string[] = [];
	const offsets = { stdin: 0, stdout: 0, stderr: 0 };
	const host = {
		list: async () => [{ id: LIVE, user: 'jane', tty: true, offsets }],
		forget: async (id: string) => void forgotten.push(id),
		end: async () => {},
	} as unknown as PtyHost;
	const terminals = new Terminals({
		clock,
		log: silentLogger,
		identity: { nodeId: OTHER, generation: 1, trustDomain: 'test', bundle: () => ({ taskSigners: [] }) },
		journal,
		devices: new DeviceGuard({ clock, log: silentLogger, policy: DENY_ALL }),
		policy: DENY_ALL,
		platform: {},
		sendInventory: () => true,
	} as unknown as TerminalsDeps);
	terminals.setConnection(connection);
	await terminals.attachHost(host);
	const say = (message: 'forget') =>
		listeners.at(-1)?.onFrame(create(ChannelResponseSchema, { message: { case: message, value: {} } }));
	// As the transport calls it: what is thrown here ends the process.
	expect(() => say('forget')).not.toThrow();
	// The same end by another way, while the first waits for room.
	const gone = { code: 'NOT_FOUND', reason: 'TERMINAL_NOT_FOUND', message: '', retryAfterMs: 0 };
	expect(() => listeners.at(-1)?.onClosed(gone)).not.toThrow();
	clock.advance(60_000);
	expect({ forgotten, facts: journal.usage().unackedFacts, opened }).toEqual({ forgotten: [], facts: 0, opened: 1 });
	isFull = false;
	clock.advance(60_000);
	expect({ forgotten, facts: journal.usage().unackedFacts, opened }).toEqual({
		forgotten: [LIVE],
		facts: 1,
		opened: 1,
	});
});

test('a new connection is told where each stream is by then, and one that was replaced meanwhile nothing', async () => {
	const said: string[] = [];
	const connection = (name: string) =>
		({
			channel: () => ({
				send: ({ message }: ChannelRequest) => {
					if (message.case === 'hello') said.push(`${name} ${message.value.channelId} ${message.value.stdinOffset}`);
					return true;
				},
				end: () => {},
				cancel: () => {},
			}),
		}) as unknown as LinkConnection;
	let stdin = 0;
	let told: readonly string[] = [];
	let gate = Promise.resolve();
	const list = async () => {
		await gate;
		return [{ id: LIVE, user: 'jane', tty: true, offsets: { stdin, stdout: 0, stderr: 0 } }];
	};
	const clock = new VirtualClock();
	const terminals = new Terminals({
		clock,
		log: silentLogger,
		identity: { nodeId: OTHER, generation: 1, trustDomain: 'test', bundle: () => ({ taskSigners: [] }) },
		journal: new MemoryJournal(),
		policy: DENY_ALL,
		devices: new DeviceGuard({ clock, log: silentLogger, policy: DENY_ALL, read: () => [] }),
		platform: {},
		sendInventory: (ids: readonly string[]) => {
			told = ids;
			return true;
		},
	} as unknown as TerminalsDeps);
	await terminals.attachHost({ list } as unknown as PtyHost);
	const settle = async () => {
		for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
	};
	terminals.setConnection(connection('a'));
	await settle();
	stdin = 500;
	terminals.setConnection(undefined);
	const opening = Promise.withResolvers<void>();
	gate = opening.promise;
	terminals.setConnection(connection('b'));
	terminals.setConnection(connection('c'));
	opening.resolve();
	await settle();
	expect(said).toEqual([`a ${LIVE} 0`, `c ${LIVE} 500`]);
	expect(told).toEqual([LIVE]);
});

test('a channel that the next host does not know is over, and said to be', async () => {
	const sent: ChannelRequest['message'][] = [];
	const listeners: ClientListener<ChannelResponse>[] = [];
	const connection = {
		channel: (listener: ClientListener<ChannelResponse>) => {
			listeners.push(listener);
			return { send: ({ message }: ChannelRequest) => sent.push(message) > 0, end: () => {}, cancel: () => {} };
		},
	} as unknown as LinkConnection;
	const clock = new VirtualClock();
	const journal = new MemoryJournal();
	const offsets = { stdin: 0, stdout: 0, stderr: 0 };
	const hostWith = (...ids: readonly string[]) =>
		({
			list: async () => ids.map((id) => ({ id, user: 'jane', tty: true, offsets })),
			forget: async () => {},
		}) as unknown as PtyHost;
	const inventories: (readonly string[])[] = [];
	const terminals = new Terminals({
		clock,
		log: silentLogger,
		identity: { nodeId: OTHER, generation: 1, trustDomain: 'test', bundle: () => ({ taskSigners: [] }) },
		journal,
		devices: new DeviceGuard({ clock, log: silentLogger, policy: DENY_ALL }),
		policy: DENY_ALL,
		platform: {},
		sendInventory: (ids: readonly string[]) => inventories.push(ids) > 0,
	} as unknown as TerminalsDeps);
	const first = hostWith(LIVE, OTHER);
	terminals.setConnection(connection);
	await terminals.attachHost(first);
	terminals.detachHost(first);
	sent.length = 0;
	await terminals.attachHost(hostWith(OTHER));
	const said = sent.map((message) => (message.case === 'hello' ? message.value.channelId : message));
	expect(said).toEqual([LIVE, { case: 'end', value: expect.objectContaining({ reason: 'TERMINAL_LOST' }) }, OTHER]);
	// Its end is in the journal before it is forgotten.
	listeners.at(-2)?.onFrame(create(ChannelResponseSchema, { message: { case: 'forget', value: {} } }));
	expect(journal.usage().unackedFacts).toBe(1);
	terminals.setConnection(connection);
	for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
	expect(inventories.at(-1)).toEqual([OTHER]);
});
