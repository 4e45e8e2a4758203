import { getEventListeners } from 'node:events';
import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { GpuaasError } from '../../../kit/error.ts';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { ChannelHelloSchema, ChannelRequestSchema } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { Stream } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	frameBytesMax,
	pipeWindowBytes,
	recorderBacklogBytesHardMax,
	recorderBacklogBytesMax,
	refusedGraceMs,
	ttyInputBytesMax,
	ttyWindowBytes,
	viewerStallMs,
	viewersMax,
	viewerWindowBytes,
} from './limits.ts';
import type { NodeEnd } from './node-end.ts';
import type { Recorder } from './recorder.ts';
import { Relay } from './relay.ts';
import { keys, settled, signal, typed, World, waiting } from './relay-fixture.ts';
import type { Viewer, ViewerMessage } from './viewer.ts';
import { watch } from './watch.ts';

describe('a relay', () => {
	test('gives the first viewer everything from the first byte, and lets the node go on as it is taken', () => {
		const world = new World();
		const node = world.node();
		expect(world.said('accepted')).toEqual([]);
		const viewer = world.viewer();
		expect(world.said('accepted')).toHaveLength(1);
		node.output(0, 'hello');
		expect(world.said('ack')).toEqual([]);
		world.relay.ack(viewer, 'stdout', 5);
		expect(world.said('ack')).toMatchObject([{ value: { offset: 5n } }]);
		expect(() => world.relay.ack(viewer, 'stdout', 6)).toThrow(/was sent up to 5/);
	});

	test('shows whoever comes later the screen, and nothing twice', () => {
		const world = new World();
		const node = world.node();
		world.viewer();
		node.output(0, 'abc');
		const late = world.viewer('observe');
		expect(world.said('screen')).toHaveLength(1);
		node.output(3, 'def');
		expect(late.unackedBytes).toBe(0);
		node.say({ case: 'screen', value: { offset: 6n, data: Buffer.from('abcdef') } });
		node.output(4, 'efg');
		expect(late.unackedBytes).toBe(1);
		expect(() => node.output(9, 'x')).toThrow(/gap/);
	});

	test('is not held up by a viewer that stopped, alone or not', () => {
		const world = new World();
		const node = world.node();
		const stopped = world.viewer();
		const chunk = 'y'.repeat(64 * 1024);
		node.output(0, chunk);
		expect(world.said('ack')).toEqual([]);
		world.clock.advance(viewerStallMs + 1);
		world.relay.tick();
		expect(stopped.state).toBe('behind');
		expect(world.said('ack')).toMatchObject([{ value: { offset: 65_536n } }]);
		for (let round = 1; round < 200; round += 1) node.output(round * chunk.length, chunk);
		expect(stopped.unackedBytes).toBeLessThanOrEqual(viewerWindowBytes);
		// It comes back: the screen, not the backlog.
		world.relay.ack(stopped, 'stdout', 65_536);
		expect(stopped.state).toBe('waiting');
		expect(world.said('screen')).toHaveLength(1);
	});

	test('gives whoever falls behind the screen, not the backlog, though others keep up', () => {
		const world = new World();
		const node = world.node();
		const fast = world.viewer();
		const slow = world.viewer('observe');
		node.say({ case: 'screen', value: { offset: 0n, data: Buffer.from('') } });
		expect(slow.state).toBe('following');
		const chunk = 'y'.repeat(16 * 1024);
		for (let at = 0; at < 2 * viewerWindowBytes; at += chunk.length) {
			node.output(at, chunk);
			world.relay.ack(fast, 'stdout', at + chunk.length);
		}
		expect([fast.state, slow.state]).toEqual(['following', 'behind']);
		expect(slow.unackedBytes).toBeLessThanOrEqual(viewerWindowBytes);
	});

	test('leaves alone whoever sits there for long: what they see is not drawn anew', () => {
		const world = new World();
		const node = world.node();
		const viewer = world.viewer();
		let at = 0;
		const says = (text: string) => {
			node.output(at, text);
			at += text.length;
		};
		const waits = (ms: number) => {
			world.clock.advance(ms);
			world.relay.tick();
		};
		// The command acknowledges from 4096 bytes on.
		for (let key = 0; key < 30; key += 1) {
			says('k');
			waits(500);
		}
		waits(viewerStallMs * 10);
		// A burst after a silence: the tick comes before the acknowledgement can.
		says('y'.repeat(20_000));
		waits(500);
		expect(viewer.state).toBe('following');
		world.relay.ack(viewer, 'stdout', at);
		expect(world.said('screen')).toEqual([]);
	});

	test('leaves alone whoever only looks on, as long as they read', async () => {
		const world = new World();
		const node = world.node();
		const observer = world.viewer('observe', true);
		const chunk = 'y'.repeat(8192);
		for (let round = 0; round < 6; round += 1) node.output(round * chunk.length, chunk);
		const reading = observer.messages(new AbortController().signal);
		for (let round = 0; round < 5; round += 1) {
			for (let message = await reading.next(); message.value?.case !== 'output'; ) message = await reading.next();
			world.clock.advance(viewerStallMs - 1000);
			world.relay.tick();
			expect(observer.state).toBe('following');
		}
		world.clock.advance(viewerStallMs);
		world.relay.tick();
		expect(observer.state).toBe('behind');
	});

	test('keeps input until the node has it, over any number of streams', async () => {
		const world = new World();
		const first = world.node();
		const viewer = world.viewer();
		const { signal } = new AbortController();
		await world.relay.write(viewer, keys(Buffer.from('abc')), signal);
		first.say({ case: 'ack', value: { stream: Stream.STDIN, offset: 1n } });
		first.close();
		await world.relay.write(viewer, keys(Buffer.from('def')), signal);
		world.down.length = 0;
		world.node(1);
		const sent = world.down.flatMap((message) =>
			message.case === 'input' ? [[message.value.offset, Buffer.from(message.value.data ?? []).toString()]] : [],
		);
		// From what was acknowledged: the node passes over what it has.
		expect(sent).toEqual([
			[0n, 'abc'],
			[3n, 'def'],
		]);
	});

	test('holds back whoever writes faster than the node takes, and leaves nothing on their signal', async () => {
		const world = new World();
		const node = world.node();
		const viewer = world.viewer();
		const { signal } = new AbortController();
		const full = Buffer.alloc(ttyInputBytesMax);
		for (let round = 1; round <= 20; round += 1) {
			await world.relay.write(viewer, keys(full), signal);
			let isTaken = false;
			const next = world.relay.write(viewer, keys(Buffer.from('x')), signal).then(() => {
				isTaken = true;
			});
			// More turns than a write takes that need not wait.
			for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
			expect(isTaken).toBe(false);
			node.say({ case: 'ack', value: { stream: Stream.STDIN, offset: BigInt(world.relay.stdinOffset) } });
			await next;
			node.say({ case: 'ack', value: { stream: Stream.STDIN, offset: BigInt(world.relay.stdinOffset) } });
		}
		expect(getEventListeners(signal, 'abort')).toEqual([]);
	});

	test('waits for the one reader of a pipe, and sends it again what its connection lost', () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'abcdef');
		world.clock.advance(viewerStallMs * 10);
		world.relay.tick();
		expect(world.said('ack')).toEqual([]);
		expect(() => world.viewer()).toThrow(/only one/);
		world.relay.detach(reader);
		expect(world.said('ack')).toEqual([]);
		world.viewer('control', false, { stdout: 2, stderr: 0 });
		expect(world.streamsEnded).toBe(1);
		world.node();
		expect(world.said('accepted').at(-1)).toMatchObject({ value: { stdoutOffset: 2n } });
	});

	test('shows the next reader of a pipe what the one before has not taken, and nothing that the node let go', async () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'abcdef');
		world.relay.ack(reader, 'stdout', 4);
		world.relay.detach(reader);
		const next = world.viewer();
		const again = world.node(0, 4);
		expect(world.said('accepted').at(-1)).toMatchObject({ value: { stdoutOffset: 4n } });
		again.output(4, 'efgh');
		const messages = next.messages(new AbortController().signal);
		let output: ViewerMessage | undefined;
		while (output?.case !== 'output') output = (await messages.next()).value ?? output;
		expect(output.value).toMatchObject({ offset: 4n, data: Buffer.from('efgh') });
		world.relay.ack(next, 'stdout', 8);
		expect(world.said('ack').at(-1)).toMatchObject({ value: { offset: 8n } });
	});

	test.each([
		['a terminal', true, viewersMax],
		['a pipe', false, 1],
	])('%s takes as many viewers as it may, and another when one has left', (_name, tty, most) => {
		const world = new World({ tty });
		const [first] = Array.from({ length: most }, () => world.viewer());
		expect(() => world.viewer()).toThrow(expect.objectContaining({ reason: 'TOO_MANY_VIEWERS' }));
		expect(world.relay.viewers.size).toBe(most);
		world.relay.detach(first as Viewer);
		world.viewer();
		expect(world.relay.viewers.size).toBe(most);
	});

	test('ends for everybody at once, with the reason, and tells the node', async () => {
		const world = new World();
		world.node();
		const room = [world.viewer(), world.viewer(), world.viewer('observe')];
		world.relay.end('NODE_LOCKED', 'its node was locked');
		expect(world.said('close')).toMatchObject([{ value: { reason: 'NODE_LOCKED' } }]);
		for (const viewer of room) {
			expect(viewer.isClosed).toBe(true);
			const { messages } = await waiting(viewer);
			expect(messages.at(-1)).toMatchObject({ case: 'end', value: { reason: 'NODE_LOCKED' } });
		}
		// A node that was away is told when it comes.
		world.node();
		expect(world.said('close')).toHaveLength(2);
	});

	test('goes on for those who stay when one leaves, and tells them', async () => {
		const world = new World();
		const node = world.node();
		const [leaver, other] = [world.viewer(), world.viewer()];
		node.say({ case: 'screen', value: { offset: 0n, data: Buffer.from('$ ') } });
		world.relay.detach(leaver);
		expect([leaver.isClosed, other.isClosed]).toEqual([true, false]);
		node.output(0, 'after');
		expect(world.said('close')).toEqual([]);
		const { messages } = await waiting(other);
		expect(messages).toContainEqual({ case: 'viewers', value: { controlling: 1, observing: 0 } });
		expect(messages.at(-1)).toMatchObject({ case: 'output', value: { data: Buffer.from('after') } });
	});
});

describe('whoever may no longer be there', () => {
	test('is out at once, also when they read nothing: no input, size or signal, and their stream is cut', async () => {
		const world = new World();
		const node = world.node();
		const guest = world.viewer();
		node.output(0, 'a secret');
		const denied = new GpuaasError({ code: 'PERMISSION_DENIED', reason: 'TERMINAL_NOT_SHARED', message: 'no longer' });
		let cuts = 0;
		const cut = () => {
			cuts += 1;
		};
		const ctx = { cut } as unknown as Parameters<typeof watch>[1]['ctx'];
		const bus = { subscribe: () => () => {} } as never;
		const what = { terminalId: 't', decideAgain: () => Promise.reject(denied) };
		const full = world.relay.write(guest, keys(typed(ttyInputBytesMax)), signal);
		await full;
		const blocked = world.relay.write(guest, keys(typed(1)), signal);
		const leave = watch(
			{ bus, clock: world.clock, log: silentLogger },
			{ relay: world.relay, viewer: guest, ctx },
			what,
		);
		world.clock.advance(600);
		await settled(() => world.relay.viewers.size === 0);
		await blocked;
		world.down.length = 0;
		await world.relay.write(guest, keys(typed(1)), signal);
		world.relay.resize(guest, { columns: 1, rows: 1 } as never);
		world.relay.signal(guest, 'INT');
		expect(world.down).toEqual([]);
		expect(cuts).toBe(0);
		world.clock.advance(refusedGraceMs + 1);
		expect(cuts).toBe(1);
		expect(await waiting(guest)).toEqual({ messages: [], failure: denied });
		leave();
	});
});

describe('a node that breaks the protocol', () => {
	test.each([
		['a terminal', true, ttyWindowBytes],
		['a pipe', false, pipeWindowBytes],
	])('can not send more of %s than its window and one frame', (_name, tty, windowBytes) => {
		const world = new World({ tty });
		const node = world.node();
		world.viewer();
		node.output(0, 'x'.repeat(windowBytes + frameBytesMax));
		expect(() => node.output(windowBytes + frameBytesMax, 'x')).toThrow(/without an acknowledgement/);
	});

	test('gains nothing by coming again and saying that it is further', () => {
		const world = new World({ tty: false });
		const first = world.node();
		world.viewer();
		const full = pipeWindowBytes + frameBytesMax;
		first.output(0, 'x'.repeat(full));
		const again = world.node(0, full);
		expect(() => again.output(full, 'x')).toThrow(/without an acknowledgement/);
	});

	test('can not send screens that nobody asked for, nor one for a pipe', () => {
		const screen = { case: 'screen', value: { offset: 0n, data: Buffer.from('s') } } as const;
		const world = new World();
		const node = world.node();
		world.viewer();
		// Due once after the acceptance: what it let go is replaced by it.
		node.say(screen);
		expect(() => node.say(screen)).toThrow(/nobody asked/);
		const pipe = new World({ tty: false });
		const pipeNode = pipe.node();
		pipe.viewer();
		expect(() => pipeNode.say(screen)).toThrow(/nobody asked/);
	});

	test('can not fill the queue of a viewer who reads nothing', async () => {
		const world = new World();
		const node = world.node();
		const viewer = world.viewer();
		for (let at = 0; at < 50_000; at += 1) node.output(at, 'x');
		for (let round = 0; round < 1000; round += 1) {
			viewer.tell({ case: 'link', value: { connected: round % 2 === 0 } });
			viewer.tell({ case: 'size', value: { columns: round, rows: 1 } });
		}
		viewer.screen({ offset: 50_000n, data: Buffer.from('s') } as never);
		viewer.output('stdout', 50_000, typed(0) as never, true);
		for (let round = 0; round < 1000; round += 1) {
			viewer.output('stdout', 50_000, typed(0) as never, true);
			viewer.output('stderr', 0, typed(0) as never, true);
		}
		const { messages } = await waiting(viewer);
		expect(messages.map((message) => message.case).sort()).toEqual([
			'link',
			'output',
			'output',
			'screen',
			'size',
			'viewers',
		]);
	});

	test('can not fill a recording that is not written', () => {
		const world = new World();
		const node = world.node();
		world.viewer();
		world.relay.record(recorder({ backlogBytes: recorderBacklogBytesHardMax + 1 }).recorder);
		expect(() => node.output(0, 'x')).toThrow(/recording/);
	});
});

function recorder(change: Partial<Recorder> = {}) {
	const said: string[] = [];
	const made: Recorder = {
		output: (data) => void said.push(Buffer.from(data).toString()),
		input: () => {},
		resize: (columns, rows) => void said.push(`${columns}x${rows}`),
		isLater: false,
		outputAt: 0,
		beginsAt: (offset) => void (change.isLater === true && said.push(`begins at ${offset}`)),
		screen: (data) => void said.push(`screen ${Buffer.from(data).toString()}`),
		gap: (from, to) => void said.push(`gap ${from} ${to}`),
		marker: (text) => void said.push(text),
		backlogBytes: 0,
		onDrain: () => {},
		end: async () => {},
		...change,
	};
	return { recorder: made, said };
}

describe('a recording', () => {
	test('is waited for by every stream of the node, asked for once, and again when it could not be asked for', async () => {
		const { relay } = new World();
		const gate = Promise.withResolvers<void>();
		let asked = 0;
		const open = () => {
			asked += 1;
			return gate.promise;
		};
		const joined: string[] = [];
		const first = relay.recordOnce(open).then(() => joined.push('first'));
		const second = relay.recordOnce(open).then(() => joined.push('second'));
		await Promise.resolve();
		expect([asked, joined]).toEqual([1, []]);
		gate.resolve();
		await Promise.all([first, second]);
		expect(joined).toEqual(['first', 'second']);

		const other = new World().relay;
		await expect(other.recordOnce(() => Promise.reject(new Error('the store is away')))).rejects.toThrow('away');
		await other.recordOnce(open);
		expect(asked).toBe(2);
	});

	test('begins with the size and with who is there, and says who comes and goes', () => {
		const world = new World();
		const viewer = world.viewer();
		world.relay.resize(viewer, { columns: 100, rows: 40 } as never);
		const { recorder: made, said } = recorder();
		world.relay.record(made);
		const other = world.viewer('observe');
		world.relay.detach(other);
		expect(said).toEqual(['100x40', 'Ada attached (control)', 'Ada attached (observe)', 'Ada detached']);
	});

	test('that is behind holds the node back, whoever has read, and lets it go on when it is written', () => {
		const world = new World();
		const node = world.node();
		const viewer = world.viewer();
		let drained = () => {};
		const onDrain = (listener: () => void) => {
			drained = listener;
		};
		const { recorder: made } = recorder({ onDrain });
		const behind = { ...made, backlogBytes: recorderBacklogBytesMax + 1 };
		world.relay.record(behind);
		node.output(0, 'hello');
		world.relay.ack(viewer, 'stdout', 5);
		expect(world.said('ack')).toEqual([]);
		behind.backlogBytes = 0;
		drained();
		expect(world.said('ack')).toMatchObject([{ value: { offset: 5n } }]);
	});

	test('says what the node could not send any more', () => {
		const world = new World();
		const first = world.node();
		world.viewer();
		const { recorder: made, said } = recorder();
		world.relay.record(made);
		first.output(0, 'abc');
		first.close();
		// What it has let go it says, and the screen is asked for by what we have.
		const again = world.node(0, 10);
		expect(world.said('accepted').at(-1)).toMatchObject({ value: { stdoutOffset: 3n } });
		again.say({ case: 'screen', value: { offset: 10n, data: Buffer.from('the screen') } });
		expect(said.slice(1)).toEqual(['abc', 'gap 3 10']);
	});

	describe('of a terminal that outlived its control plane, with nobody there,', () => {
		function later(outputAt: number | undefined) {
			const world = new World({ openedAtMs: 1 });
			const made = recorder({ isLater: true, outputAt });
			world.relay.record(made.recorder);
			return { world, said: made.said };
		}
		const screen = (offset: bigint) => ({
			case: 'screen' as const,
			value: { offset, data: Buffer.from('as it is') },
		});

		test('says what was let go meanwhile', () => {
			const { world, said } = later(3);
			const node = world.node(0, 10);
			// By what was recorded, so that the node sees what is missing.
			expect(world.said('accepted')).toMatchObject([{ value: { stdoutOffset: 3n } }]);
			node.say(screen(10n));
			node.output(10, 'on');
			expect(said).toEqual(['begins at 3', 'gap 3 10', 'on']);
		});

		test('begins with the screen where nothing is missing, once', () => {
			const { world, said } = later(10);
			const node = world.node(0, 10);
			expect(world.said('screen')).toHaveLength(1);
			node.say(screen(10n));
			node.output(10, 'on');
			world.viewer();
			node.say(screen(12n));
			expect(said).toEqual(['begins at 10', 'screen as it is', 'on', 'Ada attached (control)']);
		});

		test('begins with the screen also where nobody knows what is missing', () => {
			const { world, said } = later(undefined);
			const node = world.node(0, 10);
			expect(world.said('accepted')).toMatchObject([{ value: { stdoutOffset: 10n } }]);
			expect(world.said('screen')).toHaveLength(1);
			node.say(screen(10n));
			expect(said).toEqual(['begins at 10', 'screen as it is']);
		});
	});
});

describe('an end', () => {
	test('that the store does not take is told to nobody as kept, and tried again', async () => {
		const world = new World();
		const node = world.node();
		world.viewer();
		world.refusals = 1;
		node.say({ case: 'end', value: { reason: 'TERMINAL_EXITED', exitCode: 0 } });
		await settled(() => world.refusals === 0);
		expect([world.said('forget'), world.relay.ended]).toEqual([[], undefined]);
		world.relay.tick();
		await settled(() => world.said('forget').length === 1);
		expect(world.ended).toEqual(['TERMINAL_EXITED']);
	});

	test('that is being kept while another stream comes is said to be kept to that one', async () => {
		const { promise, resolve: keep } = Promise.withResolvers<void>();
		const hooks = { clock: new VirtualClock(), log: silentLogger, onWatched: () => {}, onEnded: () => promise };
		const relay = new Relay(new World().relay.terminal, hooks);
		const streams = [0, 1].map(() => {
			const said: string[] = [];
			const node = {
				send: (message: Parameters<NodeEnd['send']>[0]) => void said.push(String(message.case)),
				end: () => {},
			};
			const listener = relay.connectNode(create(ChannelHelloSchema), node);
			const value = { reason: 'TERMINAL_EXITED', message: '' };
			listener.onFrame(create(ChannelRequestSchema, { message: { case: 'end', value } }).message);
			return said;
		});
		keep();
		await settled(() => relay.ended !== undefined);
		expect(streams).toEqual([[], ['forget']]);
	});

	test('of ours is kept once more when the node has ended it too: then nothing of it stays', async () => {
		const world = new World();
		const node = world.node();
		world.relay.end('TERMINAL_KILLED', '');
		node.output(0, 'late words');
		node.say({ case: 'end', value: { reason: 'TERMINAL_KILLED' } });
		await settled(() => world.said('forget').length === 1);
		expect(world.ended).toEqual(['TERMINAL_KILLED']);
	});
});

describe('whoever sits in a terminal whose node goes away', () => {
	const told = async (viewer: Viewer) => (await waiting(viewer)).messages.map((message) => message.case);

	test('is told so, and sees the screen as it is once the node is back: what they read stands in the middle of it', async () => {
		const world = new World();
		const node = world.node();
		const viewer = world.viewer();
		node.output(0, 'prompt');
		const asked = world.said('screen').length;
		node.close();
		const back = world.node(0, 6);
		expect(world.said('screen')).toHaveLength(asked + 1);
		back.output(6, 'meanwhile');
		back.say({ case: 'screen', value: { offset: 15n, data: Buffer.from('as it is') } });
		back.output(15, 'later');
		expect(await told(viewer)).toEqual(['viewers', 'link', 'screen', 'output']);
	});

	test('is told when they come while it is away; where it never was, it is on its way', async () => {
		const world = new World();
		const fresh = world.viewer();
		expect(await told(fresh)).toEqual(['viewers']);
		const node = world.node();
		node.close();
		expect(await told(world.viewer())).toEqual(['link', 'viewers']);
	});

	test('sees nothing of a stream that takes the place of another while that is up', async () => {
		const world = new World();
		world.node();
		const viewer = world.viewer();
		const asked = world.said('screen').length;
		world.node();
		expect(world.said('screen')).toHaveLength(asked);
		expect(viewer.state).toBe('following');
	});
});
