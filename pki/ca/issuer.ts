import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import { EKU_CLIENT_AUTH, EKU_SERVER_AUTH, EKU_TASK_SIGNING } from '../trust/identity.ts';
import { gatewayDnsName, type IdentityKind, spiffeId } from '../trust/spiffe.ts';
import type { SignatureAlgorithm } from '../verify/signature.ts';
import { makeCertificate, randomSerial, type SubjectAltName } from '../x509/certificate.ts';
import { verifyCsr } from '../x509/csr.ts';
import { BACKDATE_MS, type CertificateAuthority } from './authority.ts';

/**
 * Issues leaves. A request names *who* it is for (decided by the caller from how the peer authenticated) and brings a
 * CSR, of which only the key and its proof of possession are used. `CertIssuer` is the seam: enrollment, renewal and
 * recovery take it as an argument; the simulation has a synchronous one of its own.
 */
export type LeafSubject =
	| { readonly kind: 'node'; readonly id: string }
	| {
			readonly kind: 'replica';
			readonly id: string;
			/** Beside `gateway.<trust domain>`: names and addresses that people and programs dial. */
			readonly dnsNames: readonly string[];
			readonly ipAddresses: readonly string[];
	  }
	| { readonly kind: 'task-signer'; readonly id: string };

export interface LeafRequest {
	readonly subject: LeafSubject;
	readonly csrDer: Uint8Array;
	readonly nowMs: number;
	/** Default: the issuer's for that kind. Never beyond the CA's own end. */
	readonly ttlMs?: number;
}

export interface IssuedCertificate {
	readonly kind: 'ok';
	readonly certificateDer: Uint8Array;
	/** DER, leaf first, without the root. */
	readonly chainDer: readonly Uint8Array[];
	readonly serialHex: string;
	readonly spkiSha256Hex: string;
	readonly issuerKeyIdHex: string;
	readonly notBeforeMs: number;
	readonly notAfterMs: number;
}

export type IssueResult =
	| IssuedCertificate
	| { readonly kind: 'refused'; readonly reason: 'CSR_INVALID'; readonly message: string };

export interface CertIssuer {
	/** Key id of the CA: what `acceptedIssuerKeyIds` must hold for its leaves. */
	readonly issuerKeyId: string;
	issue(request: LeafRequest): Promise<IssueResult>;
}

const HOUR_MS = 3_600_000;
export const NODE_TTL_MS = { default: 24 * HOUR_MS, min: HOUR_MS, max: 24 * HOUR_MS } as const;
/** Renewed by the replica itself; the API listener presents it too. */
export const REPLICA_TTL_MS = { default: 24 * HOUR_MS, min: HOUR_MS, max: 7 * 24 * HOUR_MS } as const;
/** Delivered and rotated in the bundle, so it outlives a long absence of a node. */
export const TASK_SIGNER_TTL_MS = { default: 30 * 24 * HOUR_MS, min: HOUR_MS, max: 90 * 24 * HOUR_MS } as const;

interface LeafProfile {
	readonly caRole: CertificateAuthority['role'];
	readonly ttlMs: { readonly default: number; readonly min: number; readonly max: number };
	readonly algorithms: readonly SignatureAlgorithm[];
	readonly ekus: readonly string[];
}

const TLS_EKUS = [EKU_SERVER_AUTH, EKU_CLIENT_AUTH];
const PROFILE: Readonly<Record<IdentityKind, LeafProfile>> = {
	node: { caRole: 'node', ttlMs: NODE_TTL_MS, algorithms: ['ecdsa-p256-sha256'], ekus: TLS_EKUS },
	replica: { caRole: 'replica', ttlMs: REPLICA_TTL_MS, algorithms: ['ecdsa-p256-sha256'], ekus: TLS_EKUS },
	'task-signer': {
		caRole: 'replica',
		ttlMs: TASK_SIGNER_TTL_MS,
		algorithms: ['ed25519', 'ecdsa-p256-sha256'],
		ekus: [EKU_TASK_SIGNING],
	},
};

export class AuthorityCertIssuer implements CertIssuer {
	readonly issuerKeyId: string;
	readonly #authority: CertificateAuthority;
	readonly #rng: Rng;

	constructor(authority: CertificateAuthority, rng: Rng) {
		assert(authority.role !== 'root', 'leaves come from an issuing CA, never from the root');
		this.issuerKeyId = authority.keyId;
		this.#authority = authority;
		this.#rng = rng;
	}

	async issue({ subject, csrDer, nowMs, ttlMs }: LeafRequest): Promise<IssueResult> {
		const authority = this.#authority;
		const profile = PROFILE[subject.kind];
		assert(profile.caRole === authority.role, `the ${authority.role} CA issues no ${subject.kind} certificates`);
		const lifeMs = ttlMs ?? profile.ttlMs.default;
		assert(lifeMs >= profile.ttlMs.min && lifeMs <= profile.ttlMs.max, `a ${subject.kind} certificate of ${lifeMs} ms`);
		if (nowMs >= authority.notAfterMs) throw expired(authority);
		const csr = verifyCsr(csrDer, profile.algorithms);
		if (csr.kind === 'refused') return csr;

		const serialHex = randomSerial(this.#rng);
		const notBeforeMs = Math.floor((nowMs - BACKDATE_MS) / 1000) * 1000;
		const notAfterMs = Math.floor(Math.min(nowMs + lifeMs, authority.notAfterMs) / 1000) * 1000;
		const sans = sansOf(subject, authority.trustDomain);
		const { ekus } = profile;
		const certificateDer = await makeCertificate(
			{ serialHex, subject: '', spki: csr.key.spki(), notBeforeMs, notAfterMs, ekus, sans },
			authority,
		);
		return {
			kind: 'ok',
			certificateDer,
			chainDer: [certificateDer, authority.certificateDer],
			serialHex,
			spkiSha256Hex: csr.key.keyId,
			issuerKeyIdHex: authority.keyId,
			notBeforeMs,
			notAfterMs,
		};
	}
}

function expired({ role, notAfterMs }: CertificateAuthority): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'AUTHORITY_EXPIRED',
		message: `the ${role} CA ended at ${new Date(notAfterMs).toISOString()} and issues nothing any more, so nothing enrolls, no certificate is renewed and no listener has one; on the control plane's own host: gpuaas ca renew`,
	});
}

function sansOf(subject: LeafSubject, trustDomain: string): SubjectAltName[] {
	const uri: SubjectAltName = { type: 'url', value: spiffeId(trustDomain, subject.kind, subject.id) };
	if (subject.kind !== 'replica') return [uri];
	const dns = new Set([gatewayDnsName(trustDomain), ...subject.dnsNames]);
	return [
		uri,
		...[...dns].map((value) => ({ type: 'dns', value }) as const),
		...subject.ipAddresses.map((value) => ({ type: 'ip', value }) as const),
	];
}
