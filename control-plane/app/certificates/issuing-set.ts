import { assert } from '../../../kit/assert.ts';
import type { Rng } from '../../../kit/ids.ts';
import {
	type CertificateAuthority as Ca,
	createIssuingCa,
	createRoot,
	openAuthority,
} from '../../../pki/ca/authority.ts';
import { AuthorityCertIssuer } from '../../../pki/ca/issuer.ts';
import type { Signer, SyncSigner } from '../../../pki/keys/signer.ts';
import { chainOrigin } from '../../../pki/verify/chain-head.ts';
import type { SignatureAlgorithm } from '../../../pki/verify/signature.ts';
import { createCsr } from '../../../pki/x509/csr.ts';
import { parseCertificate } from '../../../pki/x509/parse.ts';
import {
	type AuthorityDocument,
	base64Of,
	DOCUMENT_FORMAT,
	derOf,
	type IssuingSet,
	type StoredAuthority,
	type StoredKey,
	type StoredTaskSigner,
} from './document.ts';

/**
 * Makes what an authority document holds. Every key is loaded under a fixed name or made under it, and a document is
 * put only when all of its keys are on disk: a crash anywhere in between is resumed with the same keys.
 */
export interface KeyStore {
	load(name: string): SyncSigner | undefined;
	loadOrCreate(name: string, algorithm: SignatureAlgorithm): SyncSigner;
}

export interface Making {
	readonly keys: KeyStore;
	readonly trustDomain: string;
	readonly nowMs: number;
	readonly rng: Rng;
}

export async function makeDocument(making: Making): Promise<AuthorityDocument> {
	const { keys, trustDomain } = making;
	const rootSigner = keys.loadOrCreate('root', 'ecdsa-p384-sha384');
	const auditSigner = keys.loadOrCreate('audit', 'ed25519');
	const joinStateSigner = keys.loadOrCreate('join-state', 'ed25519');
	const root = await createRoot({ ...making, signer: rootSigner });
	return {
		format: DOCUMENT_FORMAT,
		trustDomain,
		bundleSeq: 1,
		root: storedAuthority('root', root),
		auditKey: { ...storedKey('audit', auditSigner), name: chainOrigin(trustDomain) },
		joinStateKey: storedKey('join-state', joinStateSigner),
		sets: [await makeSet(making, 1, root)],
		rotation: null,
	};
}

export async function makeSet(making: Making, number: number, root: Ca): Promise<IssuingSet> {
	const { keys, trustDomain, nowMs, rng } = making;
	const make = async (role: 'node' | 'replica') => {
		const name = `${role}-ca-${number}`;
		const signer = keys.loadOrCreate(name, 'ecdsa-p256-sha256');
		return { name, ca: await createIssuingCa(role, root, { trustDomain, signer, nowMs, rng }) };
	};
	const node = await make('node');
	const replica = await make('replica');
	return {
		number,
		node: storedAuthority(node.name, node.ca),
		replica: storedAuthority(replica.name, replica.ca),
		taskSigners: [await makeTaskSigner(making, `task-signer-${number}-1`, replica.ca, nowMs)],
	};
}

export async function makeTaskSigner(
	{ keys, nowMs, rng }: Making,
	keyName: string,
	replicaCa: Ca,
	signsFromMs: number,
): Promise<StoredTaskSigner> {
	const signer = keys.loadOrCreate(keyName, 'ed25519');
	const issuer = new AuthorityCertIssuer(replicaCa, rng);
	const issued = await issuer.issue({
		subject: { kind: 'task-signer', id: keyName },
		csrDer: createCsr(signer),
		nowMs,
	});
	assert(issued.kind === 'ok', 'a request that we made ourselves is valid');
	return {
		...storedKey(keyName, signer),
		certificate: base64Of(issued.certificateDer),
		notBeforeMs: issued.notBeforeMs,
		notAfterMs: issued.notAfterMs,
		signsFromMs,
	};
}

export function takeUp(role: Ca['role'], trustDomain: string, stored: StoredAuthority, signer: Signer): Ca {
	const certificateDer = derOf(stored.certificate);
	return openAuthority(
		{ role, trustDomain, keyId: stored.keyId, certificateDer, notAfterMs: stored.notAfterMs },
		signer,
	);
}

function storedKey(keyName: string, signer: Signer): StoredKey {
	const { keyId, algorithm, custody } = signer;
	return { keyName, keyId, algorithm, custody, spki: base64Of(signer.spki()) };
}

function storedAuthority(keyName: string, ca: Ca): StoredAuthority {
	const { certificateDer, notAfterMs } = ca;
	return { ...storedKey(keyName, ca.signer), certificate: base64Of(certificateDer), notAfterMs };
}

/** Serial and SPKI digest of a certificate that we made. */
export function namesOf(certificateDer: Uint8Array): { readonly serial: string; readonly spkiSha256: string } {
	const parsed = parseCertificate(certificateDer);
	assert(parsed.kind === 'ok', 'certificates that we made can be read');
	return { serial: parsed.certificate.serialHex, spkiSha256: parsed.certificate.spkiSha256Hex };
}
