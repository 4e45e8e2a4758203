import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { RenewCertificateRequest, RenewCertificateResponse } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { refusalError } from '../app/enrollment/authorize-stream.ts';
import { nodeContext } from './context.ts';
import { violation } from './frames.ts';
import type { LinkDeps } from './link-deps.ts';

/** `RenewCertificate`, whatever brought the request: authorized anew like every stream, then checked, then issued. */
export async function renewForPeer(
	deps: LinkDeps,
	leafDer: Uint8Array,
	address: string,
	request: RenewCertificateRequest,
): Promise<RenewCertificateResponse> {
	const { app } = deps;
	const correlationId = uuidv7(app.clock.now(), app.rng);
	const anonymous = nodeContext(app, 'RenewCertificate', address, correlationId, undefined);
	const peer = await deps.authorizeStream(anonymous, leafDer);
	if (peer.kind === 'refused') throw refusalError(peer);
	const fault = violation(request);
	if (fault !== undefined)
		throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message: fault });
	return await deps.renewCertificate(nodeContext(app, 'RenewCertificate', address, correlationId, peer), peer, request);
}
