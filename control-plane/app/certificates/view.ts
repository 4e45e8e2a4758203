import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { AuthorityState, RotationPhase as Phase, RotationStep } from '../../../pki/trust/rotation.ts';
import {
	type AuthorityKey,
	AuthorityKeySchema,
	type Certificate,
	type CertificateAuthority,
	CertificateAuthoritySchema,
	CertificateKind,
	CertificateSchema,
	CertificateState,
	RotationPhase,
	RotationStep as Step,
} from '../../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';
import { type AuthorityDocument, type StoredKey, setStates } from './document.ts';
import { outlookOf } from './rotation-outlook.ts';
import type { SelfRotation } from './rotation-plan.ts';

const KIND: Readonly<Record<CertificateRow['kind'], CertificateKind>> = {
	node: CertificateKind.NODE,
	replica: CertificateKind.REPLICA,
	task_signing: CertificateKind.TASK_SIGNING,
};

const STATE: Readonly<Record<CertificateRow['state'], CertificateState>> = {
	pending: CertificateState.PENDING,
	current: CertificateState.CURRENT,
	superseded: CertificateState.SUPERSEDED,
	revoked: CertificateState.REVOKED,
};

export function certificateMessage(row: CertificateRow, nowMs: number): Certificate {
	const isExpired = row.state !== 'revoked' && row.notAfterMs <= nowMs;
	return create(CertificateSchema, {
		serial: row.serial,
		kind: KIND[row.kind],
		state: isExpired ? CertificateState.EXPIRED : STATE[row.state],
		subjectId: row.subjectId,
		spkiSha256: row.spkiSha256,
		issuerKeyId: row.issuerKeyId,
		notBefore: timestampFromMs(row.notBeforeMs),
		notAfter: timestampFromMs(row.notAfterMs),
		revocationReason: row.revocationReason,
		...(row.revokedAtMs === null ? {} : { revokedAt: timestampFromMs(row.revokedAtMs) }),
		...(row.firstUsedAtMs === null ? {} : { firstUsedAt: timestampFromMs(row.firstUsedAtMs) }),
	});
}

const PHASE: Readonly<Record<Phase, RotationPhase>> = {
	standby: RotationPhase.STANDBY,
	prepared: RotationPhase.PREPARED,
	activated: RotationPhase.ACTIVATED,
	draining: RotationPhase.DRAINING,
	tainted: RotationPhase.TAINTED,
	revoked: RotationPhase.REVOKED,
};

export const STEP: Readonly<Record<RotationStep, Step>> = {
	prepare: Step.PREPARE,
	activate: Step.ACTIVATE,
	drain: Step.DRAIN,
	taint: Step.TAINT,
	revoke: Step.REVOKE,
	rollback: Step.ROLLBACK,
};

export function authorityMessage(
	document: AuthorityDocument,
	laggards: readonly string[],
	{ selfRotation, nowMs }: { readonly selfRotation: SelfRotation; readonly nowMs: number },
): CertificateAuthority {
	const { text, step, atMs } = outlookOf(document, selfRotation, nowMs, laggards);
	const sinceMs = document.progress?.sinceMs;
	return create(CertificateAuthoritySchema, {
		phase: PHASE[document.rotation?.phase ?? 'standby'],
		bundleSeq: BigInt(document.bundleSeq),
		keys: [...keysOf(document)],
		laggards: [...laggards],
		trustDomain: document.trustDomain,
		pins: [document.root.keyId],
		outlook: text,
		nextStep: step === undefined ? Step.UNSPECIFIED : STEP[step],
		...(atMs === undefined ? {} : { nextStepAt: timestampFromMs(atMs) }),
		...(sinceMs === undefined ? {} : { phaseSince: timestampFromMs(sinceMs) }),
	});
}

function* keysOf(document: AuthorityDocument): Generator<AuthorityKey> {
	yield keyMessage(document.root, 'root', 'active', document.root.notAfterMs);
	yield keyMessage(document.auditKey, 'audit', 'active', null);
	yield keyMessage(document.joinStateKey, 'join-state', 'active', null);
	const states = setStates(document);
	for (const set of document.sets) {
		const status = statusOf(states.get(set.node.keyId));
		yield keyMessage(set.node, 'issuing', status, set.node.notAfterMs);
		yield keyMessage(set.replica, 'replica', status, set.replica.notAfterMs);
		for (const signer of set.taskSigners) yield keyMessage(signer, 'task-signing', status, signer.notAfterMs);
	}
}

/** A set that no bundle names yet is still the next one. */
function statusOf(state: AuthorityState | undefined): string {
	return state === undefined ? 'next' : state === 'tainted' ? 'old' : state;
}

function keyMessage(key: StoredKey, purpose: string, status: string, notAfterMs: number | null): AuthorityKey {
	const { keyId, custody, algorithm } = key;
	const notAfter = notAfterMs === null ? {} : { notAfter: timestampFromMs(notAfterMs) };
	return create(AuthorityKeySchema, { keyId, purpose, status, custody, algorithm, ...notAfter });
}
