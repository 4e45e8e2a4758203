import type { CertificateKind, CertificateRow } from '../../store/port/certificates.ts';
import type { IssuedCertificate } from './certificate-authority.ts';
import { derOf, type StoredTaskSigner } from './document.ts';
import { namesOf } from './issuing-set.ts';

/** The row of a certificate that was just issued. Node certificates start in the pending slot. */
export function certificateRow(
	issued: IssuedCertificate,
	subject: { readonly kind: CertificateKind; readonly id: string; readonly generation: number },
	nowMs: number,
): CertificateRow {
	return {
		serial: issued.serial,
		kind: subject.kind,
		subjectId: subject.id,
		state: subject.kind === 'node' ? 'pending' : 'current',
		spkiSha256: issued.spkiSha256,
		issuerKeyId: issued.issuerKeyId,
		generation: subject.generation,
		notBeforeMs: issued.notBeforeMs,
		notAfterMs: issued.notAfterMs,
		issuedAtMs: nowMs,
		firstUsedAtMs: null,
		revokedAtMs: null,
		revocationReason: '',
		der: issued.der,
	};
}

export function signerRow(signer: StoredTaskSigner, issuerKeyId: string, nowMs: number): CertificateRow {
	const der = derOf(signer.certificate);
	const { notBeforeMs, notAfterMs } = signer;
	const issued = { ...namesOf(der), issuerKeyId, notBeforeMs, notAfterMs, der, chain: [] };
	return certificateRow(issued, { kind: 'task_signing', id: signer.keyName, generation: 0 }, nowMs);
}
