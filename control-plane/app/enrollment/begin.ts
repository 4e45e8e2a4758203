import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { enrollHelloTranscript, verifyTranscript } from '../../../pki/keys/enroll-transcript.ts';
import { verifyCsr } from '../../../pki/x509/csr.ts';
import type {
	BeginEnrollmentRequest,
	BeginEnrollmentResponse,
	JoinTokenProof,
} from '../../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import {
	BeginEnrollmentResponseSchema,
	HardwareFactsSchema,
} from '../../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import type { RequestContext } from '../../context.ts';
import { burnToken, recordRefusal } from './burn.ts';
import { channelMismatch } from './challenges.ts';
import type { EnrollmentDeps } from './deps.ts';
import type { Asked, Proved } from './exchange.ts';
import { judgeToken } from './judge-token.ts';
import { judgeRecovery } from './recover.ts';

/**
 * Hello -> Challenge. The caller proves on this TLS channel (RFC 9266 exporter) that it holds the join token's secret,
 * or the key of its expired certificate. Nothing is said about a token or node to anybody who can't prove it.
 */
export async function beginEnrollment(
	deps: EnrollmentDeps,
	ctx: RequestContext,
	exporter: Uint8Array,
	request: BeginEnrollmentRequest,
): Promise<BeginEnrollmentResponse> {
	const csr = verifyCsr(request.csr);
	if (csr.kind === 'refused') {
		throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: csr.reason, message: csr.message });
	}
	const facts = request.facts ?? create(HardwareFactsSchema);
	const asked: Asked = {
		csrDer: request.csr,
		spkiSha256: csr.key.keyId,
		serial: facts.serial,
		transcript: (tokenId) => enrollHelloTranscript({ exporter, tokenId, csrDer: request.csr }),
	};
	const { claim, proofKey } = await proved(deps, ctx, request.credential, asked);
	const challenge = deps.challenges.open({
		exporter,
		proofKey,
		csrDer: asked.csrDer,
		spkiSha256: asked.spkiSha256,
		claim,
		facts,
		agentVersion: request.agentVersion,
	});
	return create(BeginEnrollmentResponseSchema, {
		challengeId: challenge.id,
		nonce: challenge.nonce,
		serverTime: timestampFromMs(deps.clock.now()),
	});
}

function proved(
	deps: EnrollmentDeps,
	ctx: RequestContext,
	credential: BeginEnrollmentRequest['credential'],
	asked: Asked,
): Promise<Proved> {
	switch (credential.case) {
		case 'joinToken':
			return provedByToken(deps, ctx, credential.value, asked);
		case 'joinState':
			return judgeRecovery(deps, ctx, credential.value, asked);
		case undefined:
			throw new GpuaasError({
				code: 'INVALID_ARGUMENT',
				reason: 'INVALID_REQUEST',
				message: 'the request has neither a join token nor a join state; send one of them',
			});
	}
}

async function provedByToken(
	deps: EnrollmentDeps,
	ctx: RequestContext,
	{ tokenId, signature }: JoinTokenProof,
	asked: Asked,
): Promise<Proved> {
	const token = await deps.store.read(function* (tx) {
		return yield* tx.joinTokens.get(tokenId);
	});
	if (token === undefined) {
		throw new GpuaasError({
			code: 'UNAUTHENTICATED',
			reason: 'TOKEN_INVALID',
			message: 'this control plane has no such join token; create a new one here',
		});
	}
	// An id isn't secret: whoever can't sign must not be able to burn, or to learn the token's state.
	if (!verifyTranscript(token.publicKey, asked.transcript(tokenId), signature)) throw channelMismatch();
	const verdict = judgeToken(token, { ...asked, nowMs: deps.clock.now() });
	if (verdict.kind === 'refused') {
		if (verdict.burns) await burnToken(deps, ctx, token, verdict.reason);
		else await recordRefusal(deps, ctx, `tokens/${token.id}`, verdict.reason);
		throw new GpuaasError({ code: 'PERMISSION_DENIED', reason: verdict.reason, message: verdict.message });
	}
	return { claim: { kind: 'token', tokenId }, proofKey: token.publicKey };
}
