import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import {
	CertificateService,
	RevokeCertificateResponseSchema,
} from '../../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';
import { mutation } from '../use-case.ts';
import { certificateMessage } from './view.ts';

/**
 * Denies a node's certificate everywhere. Streams that use it end here at once, and on other replicas when their
 * denylist sees it. The node then needs a new token: a revoked certificate neither renews nor recovers.
 */
export const revokeCertificate = mutation('platform', CertificateService.method.revokeCertificate, {
	prepare: () => undefined,
	*apply(tx, { deps, request, nowMs }) {
		const { serial, reason } = request;
		const found = yield* tx.certificates.get(serial);
		if (found === undefined) throw notFound(serial);
		if (found.kind !== 'node') throw wrongKind(found);
		const row =
			found.state === 'revoked'
				? found
				: yield* tx.certificates.update(serial, { state: 'revoked', revokedAtMs: nowMs, revocationReason: reason });
		const response = create(RevokeCertificateResponseSchema, { certificate: certificateMessage(row ?? found, nowMs) });
		return {
			response,
			audit: {
				action: 'certificates.revoke',
				target: `nodes/${found.subjectId}`,
				result: 'ok',
				reason: '',
				detail: { serial, was: found.state },
				personal: { reason },
			},
			events: [{ topic: 'certificates.revoked', key: found.subjectId }],
			effects() {
				response.streamsClosed = deps.sessions.closeSerial(serial, 'the certificate of this agent was revoked');
			},
		};
	},
});

function notFound(serial: string): GpuaasError {
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'CERTIFICATE_NOT_FOUND',
		message: `this control plane has issued no certificate ${serial}; list certificates to see their serials`,
	});
}

function wrongKind({ serial, kind }: CertificateRow): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CERTIFICATE_WRONG_KIND',
		message: `${serial} is a ${kind.replace('_', '-')} certificate, which agents check by its CA and not against a list; rotate the certificate authority instead`,
	});
}
