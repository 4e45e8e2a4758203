import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { StreamEnd } from '../../agent/control/link-transport.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { ChannelRequestSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { startWorld, targetOf, type World } from './link-world.ts';

/** An agent's stream of a channel that says `first`; how the gateway ends it. */
async function endOf(
	world: World,
	first: NonNullable<MessageInitShape<typeof ChannelRequestSchema>['message']>,
): Promise<StreamEnd> {
	const identity = await world.enroll();
	const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${world.gateway.port}`));
	try {
		return await new Promise((resolve) => {
			const stream = connection.channel({ onFrame: () => {}, onWritable: () => {}, onClosed: resolve });
			stream.send(create(ChannelRequestSchema, { message: first }));
		});
	} finally {
		connection.close();
	}
}

test('a channel that nobody asked for is refused, by a reason that ends its program', async () => {
	await using world = await startWorld();
	const channelId = uuidv7(systemClock.now(), systemRng);
	expect(await endOf(world, { case: 'hello', value: { channelId, generation: 1 } })).toMatchObject({
		code: 'NOT_FOUND',
		reason: 'TERMINAL_NOT_FOUND',
	});
});

test('a channel begins with hello, and within its contract', async () => {
	await using world = await startWorld();
	expect(await endOf(world, { case: 'ack', value: {} })).toMatchObject({ code: 'INVALID_ARGUMENT' });
	const hello = { case: 'hello', value: { channelId: 'no uuid' } } as const;
	expect(await endOf(world, hello)).toMatchObject({ code: 'INVALID_ARGUMENT' });
});
