import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { enrollProofDigest, verifyTranscript } from '../../../pki/keys/enroll-transcript.ts';
import type {
	CompleteEnrollmentRequest,
	CompleteEnrollmentResponse,
} from '../../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import { CompleteEnrollmentResponseSchema } from '../../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import type { RequestContext } from '../../context.ts';
import { channelMismatch } from './challenges.ts';
import { completeRecovery } from './complete-recovery.ts';
import { completeWithToken } from './complete-with-token.ts';
import type { EnrollmentDeps } from './deps.ts';

/**
 * Response -> Issued. The challenge is taken once, on the connection that it was given on; the same key as in Begin
 * signs its nonce, the channel and the key of the request. What follows is one unit (complete-with-token.ts,
 * complete-recovery.ts).
 */
export async function completeEnrollment(
	deps: EnrollmentDeps,
	ctx: RequestContext,
	exporter: Uint8Array,
	request: CompleteEnrollmentRequest,
): Promise<CompleteEnrollmentResponse> {
	const challenge = deps.challenges.take(request.challengeId, exporter);
	const spkiSha256 = new Uint8Array(Buffer.from(challenge.spkiSha256, 'hex'));
	const digest = enrollProofDigest({ nonce: challenge.nonce, exporter, spkiSha256 });
	if (!verifyTranscript(challenge.proofKey, digest, request.signature)) throw channelMismatch();
	const { claim } = challenge;
	const { node, chain, joinState } =
		claim.kind === 'token'
			? await completeWithToken(deps, ctx, challenge, claim)
			: await completeRecovery(deps, ctx, challenge, claim);
	return create(CompleteEnrollmentResponseSchema, {
		nodeId: node.id,
		nodeName: node.name,
		generation: node.generation,
		chain: [...chain],
		bundle: deps.authority.bundle().bytes,
		joinState,
		serverTime: timestampFromMs(deps.clock.now()),
		gateways: [...deps.gateways],
		trustDomain: deps.authority.trustDomain,
	});
}
