import { GpuaasError } from '../../kit/error.ts';

/** PEM (RFC 7468) of certificates: what `tls` and people want; everything else here works on DER. */
export function certificatePem(certificateDer: Uint8Array): string {
	const lines =
		Buffer.from(certificateDer)
			.toString('base64')
			.match(/.{1,64}/g) ?? [];
	return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

const BLOCK = /-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----/g;

/** The DER of each certificate in `text`, in order; throws CERTIFICATE_MALFORMED when there is none. */
export function certificatesOfPem(text: string): Uint8Array[] {
	const found = [...text.matchAll(BLOCK)].map((match) => new Uint8Array(Buffer.from(match[1] ?? '', 'base64')));
	if (found.length > 0) return found;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'CERTIFICATE_MALFORMED',
		message: 'there is no PEM certificate in the text; it must hold "-----BEGIN CERTIFICATE-----" blocks',
	});
}
