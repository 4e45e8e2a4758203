import type { AppDeps } from '../app/deps.ts';
import type { AcceptedStream } from '../app/enrollment/authorize-stream.ts';
import type { RequestContext } from '../context.ts';

/** What use cases are told about an agent; without `peer` the stream isn't authorized yet. */
export function nodeContext(
	app: AppDeps,
	method: 'Connect' | 'UploadOutput' | 'Channel' | 'RenewCertificate',
	address: string,
	correlationId: string,
	peer: AcceptedStream | undefined,
	signal: AbortSignal = new AbortController().signal,
): RequestContext {
	const actor =
		peer === undefined
			? { kind: 'anonymous' as const, id: '', displayName: '', credentialId: '', credentialExpiresAtMs: null }
			: {
					kind: 'node' as const,
					id: peer.nodeId,
					displayName: peer.nodeId,
					credentialId: peer.serial,
					credentialExpiresAtMs: peer.notAfterMs,
				};
	return {
		actor,
		correlationId,
		method: `gpuaas.link.v1.AgentLinkService/${method}`,
		requestId: '',
		peer: address,
		deadlineMs: Number.POSITIVE_INFINITY,
		signal,
		log: app.log.child({ correlation_id: correlationId }),
	};
}
