import type { ChannelHello } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type {
	Fact,
	OutputHello,
	RenewCertificateRequest,
	RenewCertificateResponse,
	TaskRefused,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { HistoryAnswer, TelemetryFrame } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AppDeps } from '../app/deps.ts';
import type { AcceptedStream, StreamAuthorization } from '../app/enrollment/authorize-stream.ts';
import type { LinkLimits } from '../app/sessions/limits.ts';
import type { SessionRegistry } from '../app/sessions/registry.ts';
import type { FactSource } from '../app/tasks/record-facts.ts';
import type { OutputUpload } from '../app/tasks/upload-output.ts';
import type { NodeEnd, NodeEndListener } from '../app/terminals/node-end.ts';
import type { RequestContext } from '../context.ts';

/** Everything that the gateway calls, as main.ts composes it: the link knows no use case but those of sessions. */
export interface LinkDeps {
	readonly app: AppDeps;
	readonly registry: SessionRegistry;
	readonly limits: LinkLimits;
	/** Asked on every stream open, also on a connection that passed before (design 02). */
	readonly authorizeStream: (ctx: RequestContext, leafDer: Uint8Array) => Promise<StreamAuthorization>;
	/**
	 * Commits facts of one session, in order, in one unit; facts up to the node's `factSeq` are repetitions. Returns the
	 * highest fact that is committed. Throws SESSION_SUPERSEDED when the node has a newer epoch, so that a delayed
	 * commit of an old session can't move the counter of the new one.
	 */
	readonly recordFacts: (ctx: RequestContext, from: FactSource, facts: readonly Fact[]) => Promise<bigint>;
	/** The dispatch reconciler offers, cancels and settles again what this node has open. Must not throw. */
	readonly onSessionOpen: (opened: SessionOpened) => void;
	/** Offers that an agent can't even refuse durably. Must not throw: what isn't recorded is offered again. */
	readonly recordDeclined: (ctx: RequestContext, from: FactSource, declined: readonly TaskRefused[]) => Promise<void>;
	/** Droppable lane; must be quick and must not throw. */
	readonly ingestTelemetry: (nodeId: string, frame: TelemetryFrame) => void;
	/** What the agent's ring still had; must be quick and must not throw. */
	readonly historyAnswer: (nodeId: string, answer: HistoryAnswer) => void;
	/** Somebody looks at this node: its agent samples faster for a while. */
	readonly fastPlanOf: (nodeId: string) => { readonly fastPeriodMs: number; readonly fastUntilMs: number } | undefined;
	/** An agent's stream of one channel; rejects with why it may not go on. */
	readonly joinChannel: (
		ctx: RequestContext,
		nodeId: string,
		hello: ChannelHello,
		node: NodeEnd,
	) => Promise<NodeEndListener>;
	/** The channels that a node still has. Must not throw. */
	readonly onChannels: (nodeId: string, channelIds: readonly string[]) => void;
	readonly openUpload: (ctx: RequestContext, nodeId: string, hello: OutputHello) => Promise<OutputUpload>;
	readonly renewCertificate: (
		ctx: RequestContext,
		peer: AcceptedStream,
		request: RenewCertificateRequest,
	) => Promise<RenewCertificateResponse>;
}

export interface SessionOpened {
	readonly nodeId: string;
	readonly epoch: number;
}
