import type {
	AttemptRef,
	Fact,
	OutputHello,
	RenewCertificateRequest,
	RenewCertificateResponse,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { TelemetryFrame } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AppDeps } from '../app/deps.ts';
import type { AcceptedStream, StreamAuthorization } from '../app/enrollment/authorize-stream.ts';
import type { LinkLimits } from '../app/sessions/limits.ts';
import type { SessionRegistry } from '../app/sessions/registry.ts';
import type { OutputChunk } from '../app/tasks/output-store.ts';
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
	readonly recordFacts: (
		ctx: RequestContext,
		from: { readonly nodeId: string; readonly epoch: number },
		facts: readonly Fact[],
	) => Promise<bigint>;
	/** The dispatch reconciler offers, cancels and settles again what this node has open. Must not throw. */
	readonly onSessionOpen: (opened: SessionOpened) => void;
	/** Droppable lane; must be quick and must not throw. */
	readonly ingestTelemetry: (nodeId: string, frame: TelemetryFrame) => void;
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
	/** Attempts that the agent still has; an open attempt of ours that is missing here is lost. */
	readonly attempts: readonly AttemptRef[];
	/** Random at each start of the agent: another one than before means that the agent restarted. */
	readonly instanceId: string;
}

/** Where the output of one attempt goes. */
export interface OutputUpload {
	/** Where the agent goes on. */
	readonly storedOffset: bigint;
	/** All of it is here already. */
	readonly complete: boolean;
	/** Appends what follows on and makes it durable; returns the offset below which everything is. */
	append(chunks: readonly OutputChunk[]): Promise<bigint>;
	/** The agent has no more; returns whether the whole output is durable. */
	end(nextOffset: bigint): Promise<boolean>;
}
