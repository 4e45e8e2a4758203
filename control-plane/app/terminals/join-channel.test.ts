import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { systemClock, yieldTurn } from '../../../kit/clock.ts';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { ChannelHelloSchema } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import { TerminalHub } from './hub.ts';
import { type JoinDeps, joinChannel } from './join-channel.ts';
import type { NodeEnd } from './node-end.ts';
import type { Recorder } from './recorder.ts';

const ROW = { id: 't', nodeId: 'n', tty: true, state: 'open', openedAtMs: 1 } as unknown as TerminalRow;

function world(recorders: (hub: TerminalHub) => JoinDeps['recorders'], row: Partial<TerminalRow> = {}) {
	const hub = new TerminalHub(new VirtualClock());
	const deps = {
		clock: hub.clock,
		log: silentLogger,
		limits: { execRecordedOnly: true },
		store: { unit: async () => ({ ...ROW, ...row }) },
		bus: { publish: () => {} },
		terminals: hub,
		recorders: recorders(hub),
	} as unknown as JoinDeps;
	/** What the node was told. */
	const told: object[] = [];
	const join = () => {
		const hello = create(ChannelHelloSchema, { channelId: 't', user: 'jane' });
		const node = { send: (message: { readonly case?: string | undefined }) => told.push(message), end: () => {} };
		return joinChannel(deps, { log: silentLogger } as RequestContext, 'n', hello, node as unknown as NodeEnd);
	};
	return { hub, join, told };
}

test('a recording that began while its terminal was ended is sealed, with the reason', async () => {
	const ends: string[] = [];
	const recorder = {
		onDrain: () => {},
		beginsAt: () => {},
		end: async (why: string) => void ends.push(why),
	} as unknown as Recorder;
	const { join } = world((hub) => ({
		async open() {
			// As KillTerminal does it: there is no recording yet, and the relay is nobody's any more.
			hub.get('t')?.end('TERMINAL_KILLED', 'enough');
			hub.remove('t');
			return { kind: 'recording', recorder };
		},
	}));
	await join();
	expect(ends).toEqual(['TERMINAL_KILLED']);
});

test('the node says nothing of a terminal before its recording has begun', async () => {
	const begun = Promise.withResolvers<void>();
	const recorder = { onDrain: () => {}, beginsAt: () => {}, marker: () => {}, resize: () => {} } as unknown as Recorder;
	const { hub, join } = world(() => ({
		async open() {
			await begun.promise;
			return { kind: 'recording', recorder };
		},
	}));
	const joining = join();
	await yieldTurn(systemClock);
	expect(hub.get('t')?.isConnected).toBe(false);
	begun.resolve();
	await joining;
	expect(hub.get('t')?.isConnected).toBe(true);
});

test('where nothing may go on without a recording the node is told to end what it opened', async () => {
	const { join, told } = world(() => ({
		open: async () => ({ kind: 'refused', reason: 'RECORDING_UNAVAILABLE', message: 'no room' }),
	}));
	await join();
	expect(told.at(-1)).toMatchObject({ case: 'close', value: { reason: 'RECORDING_UNAVAILABLE' } });
});

test.each([
	['exec', 'RECORDING_REQUIRED'],
	['copy', undefined],
	['forward', undefined],
] as const)(
	'where nothing may go on without a recording, what has no terminal is ended if it may be a shell: %s',
	async (kind, reason) => {
		const asked: string[] = [];
		const row = { kind, tty: false };
		const { join, told } = world(() => ({ open: async ({ id }) => asked.push(id) as never }), row);
		await join();
		const closed = told.filter((message) => (message as { case: string }).case === 'close');
		expect(closed).toMatchObject(reason === undefined ? [] : [{ value: { reason } }]);
		expect(asked).toEqual([]);
	},
);
