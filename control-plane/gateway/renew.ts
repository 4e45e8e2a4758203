import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { KeyedBuckets } from '../../kit/limits.ts';
import type { RenewCertificateRequest, RenewCertificateResponse } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { refusalError } from '../app/enrollment/authorize-stream.ts';
import { nodeContext } from './context.ts';
import { violation } from './frames.ts';
import type { LinkDeps } from './link-deps.ts';

/**
 * `RenewCertificate`, whatever brought the request: authorized anew like every stream, then paced, checked and issued.
 * Every issue is a signature, rows and an audit record for ever, so one node gets few of them.
 */
export class Renewals {
	readonly #deps: LinkDeps;
	readonly #nodes: KeyedBuckets;

	constructor(deps: LinkDeps) {
		this.#deps = deps;
		const { renewalsPerMinutePerNode, renewalsBurstPerNode } = deps.limits;
		// As many keys as a fleet has nodes: a bucket that is forgotten early is a full one.
		this.#nodes = new KeyedBuckets(deps.app.clock, renewalsPerMinutePerNode / 60, renewalsBurstPerNode, 100_000);
	}

	async renew(
		leafDer: Uint8Array,
		address: string,
		request: RenewCertificateRequest,
	): Promise<RenewCertificateResponse> {
		const { app } = this.#deps;
		const correlationId = uuidv7(app.clock.now(), app.rng);
		const anonymous = nodeContext(app, 'RenewCertificate', address, correlationId, undefined);
		const peer = await this.#deps.authorizeStream(anonymous, leafDer);
		if (peer.kind === 'refused') throw refusalError(peer);
		const waitMs = this.#nodes.take(peer.nodeId);
		if (waitMs > 0) throw tooMany(waitMs);
		const fault = violation(request);
		if (fault !== undefined)
			throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message: fault });
		const ctx = nodeContext(app, 'RenewCertificate', address, correlationId, peer);
		return await this.#deps.renewCertificate(ctx, peer, request);
	}
}

function tooMany(waitMs: number): GpuaasError {
	const retryAfterS = Math.ceil(waitMs / 1000);
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: `this node asks for certificates too often; its next renewal is taken in ${retryAfterS} s`,
		metadata: { 'retry-after': String(retryAfterS) },
	});
}
