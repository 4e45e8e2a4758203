import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { advance, type Rotation, type RotationStep, startRotation } from '../../../pki/trust/rotation.ts';
import {
	CertificateService,
	type RotateCertificateAuthorityRequest,
	RotateCertificateAuthorityResponseSchema,
	RotationStep as Step,
} from '../../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { mutation } from '../use-case.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { type AuthorityDocument, decodeDocument, encodeDocument, type IssuingSet, issuingSet } from './document.ts';
import { custodyNote, laggardNames, namesOf, trustFacts } from './laggards.ts';
import { signerRow } from './record.ts';
import { RunningAuthority } from './running-authority.ts';
import { authorityMessage } from './view.ts';

/**
 * One step of a rotation of the issuing set: node CA, replica CA and task signer together, under the same root, so that
 * the pins in join tokens stay. The rules are pki/trust/rotation.ts; this gives it what nodes have acknowledged, stores
 * the outcome and announces it. upkeep.ts then sends the bundle to live nodes, and tells them to renew while draining.
 */
export const rotateCertificateAuthority = mutation('platform', CertificateService.method.rotateCertificateAuthority, {
	async prepare({ deps, request }) {
		const authority = rotatable(deps.authority);
		await authority.reload();
		const { document, version } = authority.document();
		// Keys are made before the unit, under fixed names: a step that fails and is tried again makes no more of them.
		const needsSet = request.step === Step.PREPARE && isIdle(document) && document.sets.length === 1;
		return { version, nextSet: needsSet ? await authority.makeNextSet() : undefined };
	},
	*apply(tx, { request, nowMs }, _target, { version, nextSet }) {
		const row = present(yield* tx.authority.get(), 'an authority is made before anything is served');
		if (row.version !== version) throw changedMeanwhile();
		const { document, waived } = yield* stepped(tx, decodeDocument(row.document), request, nextSet);
		if (!(yield* tx.authority.put(encodeDocument(document), row.version))) throw changedMeanwhile();
		for (const signer of nextSet?.taskSigners ?? []) {
			yield* tx.certificates.insert(signerRow(signer, nextSet?.replica.keyId ?? '', nowMs));
		}
		const laggards = yield* laggardNames(tx, document.rotation);
		return {
			response: create(RotateCertificateAuthorityResponseSchema, { authority: authorityMessage(document, laggards) }),
			audit: {
				action: 'ca.rotate',
				target: `authorities/${document.trustDomain}`,
				result: 'ok',
				reason: '',
				detail: {
					step: STEP[request.step] ?? '',
					phase: document.rotation?.phase ?? '',
					bundle_seq: document.bundleSeq,
					waived: waived.join(' '),
				},
				personal: { reason: request.reason },
			},
			events: [{ topic: 'authority.changed', key: document.trustDomain }],
		};
	},
});

const STEP: Readonly<Partial<Record<Step, RotationStep>>> = {
	[Step.PREPARE]: 'prepare',
	[Step.ACTIVATE]: 'activate',
	[Step.DRAIN]: 'drain',
	[Step.TAINT]: 'taint',
	[Step.REVOKE]: 'revoke',
	[Step.ROLLBACK]: 'rollback',
};

/** No rotation is under way: none was, the last one ended, or was taken back to its start. */
function isIdle({ rotation }: AuthorityDocument): boolean {
	return rotation === null || rotation.phase === 'revoked';
}

function* stepped(
	tx: Tx,
	before: AuthorityDocument,
	request: RotateCertificateAuthorityRequest,
	nextSet: IssuingSet | undefined,
): Plan<{ readonly document: AuthorityDocument; readonly waived: readonly string[] }> {
	const step = present(STEP[request.step], 'the contract admits only defined steps');
	const rotation = started(before, step, nextSet);
	const { facts, nodes } = yield* trustFacts(tx, rotation, step);
	const waiver = waiverOf(request, nodes);
	const bundleSeq = before.bundleSeq + 1;
	const result = advance(rotation, { step, bundleSeq, ...(waiver === undefined ? {} : { waiver }) }, facts);
	if (result.kind === 'blocked') {
		throw blocked(namesOf(result.laggards, nodes), `${result.message}${custodyNote(result.laggards, nodes)}`);
	}
	if (result.kind === 'refused') throw invalidStep(result.message);
	const sets = nextSet === undefined ? before.sets : [...before.sets, nextSet];
	const isOver = result.rotation.phase === 'revoked';
	const document = {
		...before,
		bundleSeq,
		rotation: result.rotation,
		sets: isOver ? sets.filter(({ node }) => node.keyId === result.rotation.nextKeyId) : sets,
	};
	return { document, waived: namesOf(waiver?.nodeIds ?? [], nodes) };
}

function started(document: AuthorityDocument, step: RotationStep, nextSet: IssuingSet | undefined): Rotation {
	const { rotation, bundleSeq } = document;
	if (rotation !== null && rotation.phase !== 'revoked') return rotation;
	if (nextSet === undefined) {
		throw invalidStep(`${step} is not possible while no rotation is under way; possible: prepare`);
	}
	return startRotation(issuingSet(document).node.keyId, nextSet.node.keyId, bundleSeq);
}

/** Names as `ca status` shows them, or ids. An unknown one stays as it is, and the rules refuse it. */
function waiverOf({ waiveNodes, reason }: RotateCertificateAuthorityRequest, nodes: ReadonlyMap<string, NodeRow>) {
	if (waiveNodes.length === 0) return undefined;
	const idOf = new Map([...nodes.values()].map((node) => [node.name, node.id]));
	return { nodeIds: [...new Set(waiveNodes.map((name) => idOf.get(name) ?? name))], reason };
}

function rotatable(authority: CertificateAuthority): RunningAuthority {
	if (authority instanceof RunningAuthority) return authority;
	throw new GpuaasError({
		code: 'UNIMPLEMENTED',
		reason: 'ROTATION_STEP_INVALID',
		message: 'this certificate authority keeps its keys elsewhere and is rotated there',
	});
}

const NAMES_SHOWN_MAX = 20;

function blocked(laggards: readonly string[], message: string): GpuaasError {
	const more = laggards.length > NAMES_SHOWN_MAX ? `, and ${laggards.length - NAMES_SHOWN_MAX} more` : '';
	const names = laggards.slice(0, NAMES_SHOWN_MAX).join(', ');
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ROTATION_BLOCKED',
		message: `${message}: ${names}${more}`,
		metadata: { laggards: laggards.slice(0, NAMES_SHOWN_MAX).join(','), laggard_count: String(laggards.length) },
	});
}

function invalidStep(message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason: 'ROTATION_STEP_INVALID', message });
}

function changedMeanwhile(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'ETAG_MISMATCH',
		message: 'the certificate authority changed while this step was prepared; look at its phase and try again',
	});
}
