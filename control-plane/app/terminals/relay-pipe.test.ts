import { describe, expect, test } from 'vitest';
import { Stream } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { settled, World, waiting } from './relay-fixture.ts';

const EXITED = { case: 'end', value: { reason: 'TERMINAL_EXITED', exitCode: 0 } } as const;

function errors(offset: number, data: string) {
	return {
		case: 'output',
		value: { stream: Stream.STDERR, offset: BigInt(offset), data: Buffer.from(data) },
	} as const;
}

describe('the end of a program on pipes', () => {
	test('comes once its reader has taken all that it wrote, on both streams', async () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'answer');
		node.say(errors(0, 'oh'));
		node.say(EXITED);
		expect(world.relay.isLeftover).toBe(true);
		world.relay.ack(reader, 'stdout', 6);
		world.clock.advance(60_000);
		world.relay.tick();
		await settled(() => world.ended.length === 0 && !reader.isClosed);
		expect(world.said('forget')).toEqual([]);
		world.relay.ack(reader, 'stderr', 2);
		await settled(() => world.said('forget').length === 1 && reader.isClosed);
		expect(world.ended).toEqual(['TERMINAL_EXITED']);
		expect(world.relay.isLeftover).toBe(false);
	});

	test('is at once where nothing waits, and with a terminal, whose screen says it all', async () => {
		for (const tty of [false, true]) {
			const world = new World({ tty });
			const node = world.node();
			const viewer = world.viewer();
			if (tty) node.output(0, 'prompt');
			node.say(EXITED);
			await settled(() => world.said('forget').length === 1 && viewer.isClosed);
		}
	});

	test('is at once for a reader that acknowledges nothing, or may not, and once it has left', async () => {
		for (const leaves of [false, true]) {
			const world = new World({ tty: false });
			world.acknowledges = false;
			const node = world.node();
			const reader = world.viewer();
			node.output(0, 'answer');
			if (leaves) world.relay.detach(reader);
			node.say(EXITED);
			await settled(() => world.said('forget').length === 1 && reader.isClosed);
		}
	});

	test('waits for a reader whose line broke, who gets the rest first; the node says it again', async () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'first');
		world.relay.ack(reader, 'stdout', 5);
		world.relay.detach(reader);
		node.output(5, 'second');
		node.say(EXITED);
		const back = world.viewer('control', false, { stdout: 5, stderr: 0 });
		// All that came before counts for nothing: it comes again.
		world.relay.tick();
		await settled(() => world.ended.length === 0);
		const again = world.node(0, 5);
		expect(world.said('accepted').at(-1)).toMatchObject({ value: { stdoutOffset: 5n } });
		again.output(5, 'second');
		again.say(EXITED);
		await settled(() => world.ended.length === 0);
		world.relay.ack(back, 'stdout', 11);
		await settled(() => world.ended.length === 1 && back.isClosed);
	});

	test('that was on its way when a reader came back for what it missed is not taken for the end of that', async () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'first');
		world.relay.ack(reader, 'stdout', 5);
		node.output(5, 'second');
		world.relay.detach(reader);
		const back = world.viewer('control', false, { stdout: 5, stderr: 0 });
		// Said before the node knew: more that doesn't follow on what the reader has, and its end.
		node.output(11, 'third');
		node.say(EXITED);
		await settled(() => world.ended.length === 0 && !back.isClosed);
		expect(world.streamsEnded).toBe(1);
		const again = world.node(0, 5);
		again.output(5, 'secondthird');
		again.say(EXITED);
		world.relay.ack(back, 'stdout', 16);
		await settled(() => world.ended.length === 1 && back.isClosed);
	});

	test('a signal asked for meanwhile comes with the stream that begins anew, and nobody is told that the node is away', async () => {
		const begun = () => {
			const world = new World({ tty: false });
			const node = world.node();
			const reader = world.viewer();
			node.output(0, 'first');
			world.relay.detach(reader);
			const back = world.viewer('control', false, { stdout: 0, stderr: 0 });
			expect(world.streamsEnded).toBe(1);
			return { world, back };
		};
		const { world, back } = begun();
		world.relay.signal(back, 'INT');
		expect(world.said('signal')).toEqual([]);
		world.node(0, 0);
		expect(world.said('signal')).toEqual([{ case: 'signal', value: { name: 'INT' } }]);
		const { messages } = await waiting(begun().back);
		expect(messages.filter((message) => message.case === 'link')).toEqual([]);
	});

	test('is said again by a node whose link broke meanwhile', async () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'answer');
		node.say(EXITED);
		node.close();
		const next = world.node();
		world.relay.ack(reader, 'stdout', 6);
		await settled(() => world.ended.length === 0);
		next.say(EXITED);
		await settled(() => world.ended.length === 1 && world.said('forget').length === 1);
	});

	test('does not hold up whoever ends it: a lock, or the end of the wait', async () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'answer');
		node.say(EXITED);
		world.relay.end('TERMINAL_ABANDONED', 'nobody was attached for 10 min');
		await settled(() => world.said('forget').length === 1 && reader.isClosed);
		expect(world.ended).toEqual(['TERMINAL_ABANDONED']);
	});
});

test('one that is ended before anybody came is accepted, so that its node says its end and forgets it', async () => {
	const world = new World({ tty: false });
	const node = world.node();
	expect(world.said('accepted')).toEqual([]);
	world.relay.end('TERMINAL_KILLED', '');
	expect(world.down.map((message) => message.case)).toEqual(['accepted', 'close']);
	node.say({ case: 'end', value: { reason: 'TERMINAL_KILLED' } });
	await settled(() => world.said('forget').length === 1);
});

describe('what was taken', () => {
	const told = (world: World) => world.said('ack').map((message) => message.value);

	test('while the node was away is told on its next stream: a program without room waits for that', () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'a window');
		node.say(errors(0, 'oh'));
		node.close();
		world.relay.ack(reader, 'stdout', 8);
		world.relay.ack(reader, 'stderr', 2);
		// Sent to nobody.
		world.down.length = 0;
		world.node();
		expect(told(world)).toEqual([
			{ stream: Stream.STDOUT, offset: 8n },
			{ stream: Stream.STDERR, offset: 2n },
		]);
		expect(world.down.map((message) => message.case).indexOf('accepted')).toBe(0);
	});

	test('by a reader whose line broke before it could say so is told when it comes back', () => {
		const world = new World({ tty: false });
		const node = world.node();
		const reader = world.viewer();
		node.output(0, 'a window');
		world.relay.detach(reader);
		expect(told(world)).toEqual([]);
		world.viewer('control', false, { stdout: 8, stderr: 0 });
		expect(told(world)).toEqual([{ stream: Stream.STDOUT, offset: 8n }]);
	});
});
