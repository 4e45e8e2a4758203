import { create } from '@bufbuild/protobuf';
import { beginEnrollment } from '../../control-plane/app/enrollment/begin.ts';
import { completeEnrollment } from '../../control-plane/app/enrollment/complete.ts';
import { createToken } from '../../control-plane/app/tokens/create.ts';
import { systemContext } from '../../control-plane/context.ts';
import { assert, present } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { EXPORTER_BYTES, enrollHelloTranscript, enrollProofDigest } from '../../pki/keys/enroll-transcript.ts';
import { joinTokenSigner, parseJoinToken } from '../../pki/keys/join-token.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import {
	BeginEnrollmentRequestSchema,
	CompleteEnrollmentRequestSchema,
	type CompleteEnrollmentResponse,
} from '../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import { CreateTokenRequestSchema } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { TRUST_DOMAIN } from './composition.ts';
import type { SimControlPlane } from './control-plane.ts';
import type { SimNode } from './node.ts';
import type { Operator } from './operator.ts';
import { simSigner } from './world/keys.ts';
import type { SeededRng } from './world/random.ts';
import type { Scheduler } from './world/scheduler.ts';

/**
 * Brings a machine in through the real enrollment: token, Begin, Complete. The TLS channel is a random exporter that
 * both ends know. Answers get lost with the control plane; the host asks again with the same key and token.
 */
export async function enroll(
	node: SimNode,
	parts: {
		readonly scheduler: Scheduler;
		readonly operator: Operator;
		readonly controlPlane: SimControlPlane;
		readonly rng: SeededRng;
	},
): Promise<void> {
	const { operator, controlPlane, rng, scheduler } = parts;
	const ask = create(CreateTokenRequestSchema, { nodeName: node.name });
	const token = await operator.insist(createToken, ask, operator.nextRequestId());
	assert(!(token instanceof GpuaasError), `no join token: ${token instanceof GpuaasError ? token.message : ''}`);
	const parsed = parseJoinToken(token.joinToken);
	assert(parsed.kind === 'ok', 'a join token can be parsed');
	const { id: tokenId, secret } = parsed.token;
	const keySeed = `${node.name}/key-0`;
	const nodeKey = simSigner(keySeed, 'ecdsa-p256-sha256');
	const csr = createCsr(nodeKey);
	for (;;) {
		const issued = await once(controlPlane, { tokenId, proofKey: joinTokenSigner(secret), nodeKey, csr, rng, node });
		if (issued !== undefined) {
			scheduler.note(`${node.name} enrolled as ${issued.nodeId}`);
			node.enrolled({
				nodeId: issued.nodeId,
				nodeName: issued.nodeName,
				generation: issued.generation,
				trustDomain: TRUST_DOMAIN,
				keySeed,
				chain: issued.chain,
				candidate: undefined,
				joinState: issued.joinState,
				renewalSeq: 1,
				bundle: issued.bundle,
			});
			return;
		}
		await operator.pause(2000);
	}
}

async function once(
	controlPlane: SimControlPlane,
	asked: {
		readonly tokenId: string;
		readonly proofKey: ReturnType<typeof joinTokenSigner>;
		readonly nodeKey: ReturnType<typeof simSigner>;
		readonly csr: Uint8Array;
		readonly rng: SeededRng;
		readonly node: SimNode;
	},
): Promise<CompleteEnrollmentResponse | undefined> {
	const life = controlPlane.life;
	if (life === undefined) return undefined;
	const { deps } = life;
	const { tokenId, proofKey, nodeKey, csr, rng, node } = asked;
	const exporter = rng.bytes(EXPORTER_BYTES);
	const ctx = systemContext('sim-enroll', deps.clock, deps.log, `enroll-${node.name}`);
	const signature = proofKey.signSync(enrollHelloTranscript({ exporter, tokenId, csrDer: csr }));
	const request = create(BeginEnrollmentRequestSchema, {
		credential: { case: 'joinToken', value: { tokenId, signature } },
		csr,
		facts: { hostname: node.name, serial: `SERIAL-${node.name}`, bootId: node.host.bootId },
		agentVersion: 'sim',
	});
	const exchange = async () => {
		const { challengeId, nonce } = await beginEnrollment(deps, ctx, exporter, request);
		const spkiSha256 = new Uint8Array(Buffer.from(nodeKey.keyId, 'hex'));
		const proof = proofKey.signSync(enrollProofDigest({ nonce, exporter, spkiSha256 }));
		const complete = create(CompleteEnrollmentRequestSchema, { challengeId, signature: proof });
		return await completeEnrollment(deps, ctx, exporter, complete);
	};
	const died = new Promise<undefined>((resolve) => life.process.onDeath(() => resolve(undefined)));
	return await Promise.race([exchange().catch(() => undefined), died]);
}

/** For assertions of the world: an enrolled node has an id. */
export function nodeIdOf(node: SimNode): string {
	return present(node.nodeId, `${node.name} is enrolled`);
}
