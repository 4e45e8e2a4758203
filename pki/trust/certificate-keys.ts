import { VerifyKey } from '../verify/signature.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/parse.ts';

/**
 * Certificates that are met again and again (a node's on each of its receipts, the task signer's on each envelope),
 * parsed once: reading one and its key costs more than checking a signature. A pure function of the bytes, so what is
 * forgotten is only parsed again; nothing about trust or validity is kept.
 */
export interface CertificateKey {
	readonly certificate: ParsedCertificate;
	/** Undefined for keys that we don't use. */
	readonly key: VerifyKey | undefined;
}

export class CertificateKeys {
	readonly #keptMax: number;
	readonly #kept = new Map<string, CertificateKey>();

	constructor(keptMax: number) {
		this.#keptMax = keptMax;
	}

	/** Undefined when it isn't a certificate. */
	get(der: Uint8Array): CertificateKey | undefined {
		const name = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('latin1');
		const kept = this.#kept.get(name);
		if (kept !== undefined) return kept;
		const parsed = parseCertificate(der);
		if (parsed.kind !== 'ok') return undefined;
		const made = { certificate: parsed.certificate, key: VerifyKey.parse(parsed.certificate.spki) };
		if (this.#kept.size >= this.#keptMax) {
			const [oldest] = this.#kept.keys();
			if (oldest !== undefined) this.#kept.delete(oldest);
		}
		this.#kept.set(name, made);
		return made;
	}
}
