import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ChannelRequest, ChannelResponseSchema } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';

/** The agent's stream of one channel, as the relay sees it; implemented by gateway/channel.ts. */
export interface NodeEnd {
	/** Of sizes and signals that the node is too slow for only the last of each comes. Ignored after the end. */
	send(message: NonNullable<MessageInitShape<typeof ChannelResponseSchema>['message']>): void;
	/** A newer stream took over, or nothing more will be said. */
	end(): void;
}

export interface NodeEndListener {
	/** After the hello. Throws a GpuaasError when the agent breaks the protocol. */
	onFrame(message: ChannelRequest['message']): void;
	onClosed(): void;
}
