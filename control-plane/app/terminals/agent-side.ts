import type { ChannelHello } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { RequestContext } from '../../context.ts';
import { type JoinDeps, joinChannel } from './join-channel.ts';
import { loseTerminals } from './lose.ts';
import type { NodeEnd } from './node-end.ts';
import { NO_RECORDER } from './recorder.ts';

/** What the gateway asks about channels. */
export function terminalsOfAgents(deps: Omit<JoinDeps, 'recorders'> & Partial<Pick<JoinDeps, 'recorders'>>) {
	const join: JoinDeps = { recorders: NO_RECORDER, ...deps };
	return {
		joinChannel: (ctx: RequestContext, nodeId: string, hello: ChannelHello, node: NodeEnd) =>
			joinChannel(join, ctx, nodeId, hello, node),
		onChannels: (nodeId: string, channelIds: readonly string[]) => void loseTerminals(deps, nodeId, channelIds),
	};
}
