import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { RotationStep } from '../../../pki/trust/rotation.ts';
import {
	CertificateService,
	RotateCertificateAuthorityResponseSchema,
	RotationStep as Step,
} from '../../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { mutation } from '../use-case.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { decodeDocument, encodeDocument, isIdle } from './document.ts';
import { laggardNames } from './laggards.ts';
import { signerRow } from './record.ts';
import { RunningAuthority } from './running-authority.ts';
import { stepRecord, takeStep } from './step.ts';
import { authorityMessage, STEP } from './view.ts';

/**
 * One step of a rotation of the issuing set: node CA, replica CA and task signer together, under the same root, so that
 * the pins in join tokens stay. The rules are pki/trust/rotation.ts; this gives it what nodes have acknowledged, stores
 * the outcome and announces it. upkeep.ts then sends the bundle to live nodes, and tells them to renew while draining.
 */
export const rotateCertificateAuthority = mutation('platform', CertificateService.method.rotateCertificateAuthority, {
	async prepare({ deps, request }) {
		const authority = rotatable(deps.authority);
		await authority.reload();
		authority.assertKeys();
		const { document, version } = authority.document();
		// Keys are made before the unit, under fixed names: a step that fails and is tried again makes no more of them.
		const needsSet = request.step === Step.PREPARE && isIdle(document) && document.sets.length === 1;
		return { version, nextSet: needsSet ? await authority.makeNextSet() : undefined };
	},
	*apply(tx, { deps, request, nowMs }, _target, { version, nextSet }) {
		const row = present(yield* tx.authority.get(), 'an authority is made before anything is served');
		if (row.version !== version) throw changedMeanwhile();
		const { step: wanted, waiveNodes, reason } = request;
		const step = present(stepOf(wanted), 'the contract admits only defined steps');
		const waiver = { nodes: waiveNodes, reason };
		const taken = yield* takeStep(tx, decodeDocument(row.document), { step, nowMs, nextSet, waiver });
		const { document } = taken;
		if (!(yield* tx.authority.put(encodeDocument(document), row.version))) throw changedMeanwhile();
		for (const signer of nextSet?.taskSigners ?? []) {
			yield* tx.certificates.insert(signerRow(signer, nextSet?.replica.keyId ?? '', nowMs));
		}
		const laggards = yield* laggardNames(tx, document.rotation);
		const { selfRotation } = deps.limits;
		const authority = authorityMessage(document, laggards, { selfRotation, nowMs });
		return {
			response: create(RotateCertificateAuthorityResponseSchema, { authority }),
			audit: stepRecord(step, taken, { personal: { reason } }),
			events: [{ topic: 'authority.changed', key: document.trustDomain }],
		};
	},
});

/** Undefined for what the contract doesn't admit. */
function stepOf(wanted: Step): RotationStep | undefined {
	return (Object.keys(STEP) as RotationStep[]).find((step) => STEP[step] === wanted);
}

function rotatable(authority: CertificateAuthority): RunningAuthority {
	if (authority instanceof RunningAuthority) return authority;
	throw new GpuaasError({
		code: 'UNIMPLEMENTED',
		reason: 'ROTATION_STEP_INVALID',
		message: 'this certificate authority keeps its keys elsewhere and is rotated there',
	});
}

function changedMeanwhile(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'ETAG_MISMATCH',
		message: 'the certificate authority changed while this step was prepared; look at its phase and try again',
	});
}
