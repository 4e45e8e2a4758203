import { assert } from '../../kit/assert.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Signer } from '../keys/signer.ts';
import { isTrustDomain } from '../trust/spiffe.ts';
import { makeCertificate, randomSerial } from '../x509/certificate.ts';

/**
 * Certificate authorities. One P-384 root (10 years, may stay offline) signs two P-256 issuing CAs (90 days): the node
 * CA, and the replica CA that also certifies task signers. They share the root so that one pin in a join token covers
 * an enrollment, and are kept apart at every door by the accepted issuer key id (trust/identity.ts): whoever steals a
 * replica's CA can't make a node, nor the reverse. Called when a control plane is created and by CA rotation.
 */
export type CaRole = 'root' | 'node' | 'replica';

export interface CertificateAuthority {
	readonly role: CaRole;
	readonly trustDomain: string;
	readonly keyId: string;
	readonly certificateDer: Uint8Array;
	readonly notAfterMs: number;
	readonly signer: Signer;
}

const DAY_MS = 86_400_000;
export const ROOT_LIFETIME_MS = 3650 * DAY_MS;
export const ISSUING_CA_LIFETIME_MS = 90 * DAY_MS;
/** Start of validity before now, so that a host whose clock is a little behind accepts it at once. */
export const BACKDATE_MS = 60_000;

export interface AuthorityRequest {
	readonly trustDomain: string;
	readonly signer: Signer;
	readonly nowMs: number;
	readonly rng: Rng;
	readonly lifetimeMs?: number;
}

export function createRoot(request: AuthorityRequest): Promise<CertificateAuthority> {
	assert(request.signer.algorithm === 'ecdsa-p384-sha384', 'the root is P-384');
	return create('root', request, ROOT_LIFETIME_MS, undefined);
}

export function createIssuingCa(
	role: 'node' | 'replica',
	root: CertificateAuthority,
	request: AuthorityRequest,
): Promise<CertificateAuthority> {
	assert(request.signer.algorithm === 'ecdsa-p256-sha256', 'issuing CAs are P-256');
	assert(root.role === 'root' && root.trustDomain === request.trustDomain, 'an issuing CA stands under its own root');
	return create(role, request, ISSUING_CA_LIFETIME_MS, root);
}

export interface AuthoritySet {
	readonly root: CertificateAuthority;
	readonly node: CertificateAuthority;
	readonly replica: CertificateAuthority;
}

/** The three CAs of a new control plane. */
export async function createAuthoritySet(
	signers: { readonly root: Signer; readonly node: Signer; readonly replica: Signer },
	shared: Omit<AuthorityRequest, 'signer' | 'lifetimeMs'>,
): Promise<AuthoritySet> {
	const root = await createRoot({ ...shared, signer: signers.root });
	return {
		root,
		node: await createIssuingCa('node', root, { ...shared, signer: signers.node }),
		replica: await createIssuingCa('replica', root, { ...shared, signer: signers.replica }),
	};
}

async function create(
	role: CaRole,
	{ trustDomain, signer, nowMs, rng, lifetimeMs }: AuthorityRequest,
	defaultLifetimeMs: number,
	root: CertificateAuthority | undefined,
): Promise<CertificateAuthority> {
	assert(isTrustDomain(trustDomain), 'a trust domain is a lower-case DNS name');
	const endMs = nowMs + (lifetimeMs ?? defaultLifetimeMs);
	const notAfterMs = Math.floor(Math.min(endMs, root?.notAfterMs ?? endMs) / 1000) * 1000;
	const certificateDer = await makeCertificate(
		{
			serialHex: randomSerial(rng),
			// The key id keeps two CAs of one role apart for software that finds issuers by name.
			subject: `O=GPUaaS, CN=${trustDomain} ${role} CA ${signer.keyId.slice(0, 16)}`,
			spki: signer.spki(),
			notBeforeMs: nowMs - BACKDATE_MS,
			notAfterMs,
			caPathLength: root === undefined ? 1 : 0,
			ekus: [],
			sans: [],
		},
		root === undefined ? { signer } : { signer: root.signer, certificateDer: root.certificateDer },
	);
	return { role, trustDomain, keyId: signer.keyId, certificateDer, notAfterMs, signer };
}

/** Takes up a CA from its stored certificate and its key; `keyId` says whether they belong together. */
export function openAuthority(
	stored: Pick<CertificateAuthority, 'role' | 'trustDomain' | 'certificateDer' | 'notAfterMs' | 'keyId'>,
	signer: Signer,
): CertificateAuthority {
	assert(signer.keyId === stored.keyId, 'the key store holds another key than the one that this CA was made with');
	return { ...stored, signer };
}
