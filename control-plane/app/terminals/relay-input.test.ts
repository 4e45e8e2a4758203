import { describe, expect, test } from 'vitest';
import { Stream } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { ttyInputBytesMax } from './limits.ts';
import { keys, signal, typed, World, waiting } from './relay-fixture.ts';

describe('input of a viewer', () => {
	test('is never more than the bound, also when its pieces do not add up to it', async () => {
		const world = new World();
		const node = world.node();
		const viewer = world.viewer();
		const piece = Math.floor(ttyInputBytesMax * 0.6);
		await world.relay.write(viewer, keys(typed(piece)), signal);
		const second = world.relay.write(viewer, keys(typed(piece)), signal);
		await Promise.resolve();
		expect(world.relay.stdinOffset).toBe(piece);
		node.say({ case: 'ack', value: { stream: Stream.STDIN, offset: BigInt(piece) } });
		await second;
		expect(world.relay.stdinOffset).toBe(2 * piece);
	});

	test('larger than the bound goes alone, when nothing waits', async () => {
		const world = new World();
		world.node();
		await world.relay.write(world.viewer(), keys(typed(ttyInputBytesMax + 1)), signal);
		expect(world.relay.stdinOffset).toBe(ttyInputBytesMax + 1);
	});
});

describe('after a restart of the control plane', () => {
	const sentTo = (world: World) =>
		world.down.flatMap((message) =>
			message.case === 'input' ? [[message.value.offset, Buffer.from(message.value.data ?? []).toString()]] : [],
		);

	test('keys that were typed before the node is back reach the program', async () => {
		const world = new World({ openedAtMs: 1 });
		const viewer = world.viewer();
		expect(await world.relay.stdinFrom(viewer, true, signal)).toBe(0);
		await world.relay.write(viewer, keys(Buffer.from('ab')), signal);
		const node = world.node(100);
		await world.relay.write(viewer, keys(Buffer.from('c'), 2), signal);
		expect(sentTo(world)).toEqual([
			[100n, 'ab'],
			[102n, 'c'],
		]);
		node.say({ case: 'ack', value: { stream: Stream.STDIN, offset: 103n } });
		// Theirs are three.
		expect((await waiting(viewer)).messages).toContainEqual(
			expect.objectContaining({ case: 'ack', value: { stream: Stream.STDIN, offset: 3n } }),
		);
	});

	test('whoever feeds a pipe is told where to go on by its node, and waits for that', async () => {
		const world = new World({ tty: false, openedAtMs: 1 });
		const viewer = world.viewer();
		let from: number | undefined;
		const told = world.relay.stdinFrom(viewer, true, signal).then((offset) => {
			from = offset;
		});
		for (let turn = 0; turn < 100; turn += 1) await Promise.resolve();
		expect(from).toBeUndefined();
		const node = world.node(50);
		await told;
		expect(from).toBe(50);
		// What was on its way both before and after: nothing is given to the program twice.
		await world.relay.write(viewer, keys(Buffer.from('abcdef'), 48), signal);
		expect(sentTo(world)).toEqual([[50n, 'cdef']]);
		node.say({ case: 'ack', value: { stream: Stream.STDIN, offset: 54n } });
		expect((await waiting(viewer)).messages).toContainEqual(
			expect.objectContaining({ case: 'ack', value: { stream: Stream.STDIN, offset: 54n } }),
		);
	});

	test('nobody waits for a node that does not come once the pipe is over for them', async () => {
		const ended = new World({ tty: false, openedAtMs: 1 });
		const left = new World({ tty: false, openedAtMs: 1 });
		const [one, other] = [ended.viewer(), left.viewer()];
		const both = [ended.relay.stdinFrom(one, false, signal), left.relay.stdinFrom(other, false, signal)];
		ended.relay.end('HOST_DIED', '');
		left.relay.detach(other);
		expect(await Promise.all(both)).toEqual([0, 0]);
	});
});

describe('whoever comes back to a pipe', () => {
	test('sends again what only this control plane had, and the program gets it once', async () => {
		const world = new World({ tty: false });
		const node = world.node();
		const first = world.viewer();
		await world.relay.write(first, keys(Buffer.from('abcdef')), signal);
		node.say({ case: 'ack', value: { stream: Stream.STDIN, offset: 2n } });
		world.relay.detach(first);
		const again = world.viewer();
		expect(await world.relay.stdinFrom(again, true, signal)).toBe(2);
		world.down.length = 0;
		await world.relay.write(again, keys(Buffer.from('cdef'), 2), signal);
		await world.relay.write(again, keys(Buffer.from('gh'), 6), signal);
		const input = world.said('input');
		expect(input).toMatchObject([{ value: { offset: 6n, data: Buffer.from('gh') } }]);
		node.say({ case: 'ack', value: { stream: Stream.STDIN, offset: 7n } });
		await expect(world.relay.write(again, keys(Buffer.from('z'), 9), signal)).rejects.toThrow('a gap at 8');
		expect((await waiting(again)).messages.filter((message) => message.case === 'ack')).toMatchObject([
			{ value: { offset: 7n } },
		]);
	});

	test('and whoever comes new goes on behind what is here', async () => {
		const world = new World({ tty: false });
		world.node();
		const first = world.viewer();
		await world.relay.write(first, keys(Buffer.from('abc')), signal);
		world.relay.detach(first);
		expect(await world.relay.stdinFrom(world.viewer(), false, signal)).toBe(3);
	});
});
