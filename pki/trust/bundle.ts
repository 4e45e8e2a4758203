import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { VerifyKey } from '../verify/signature.ts';
import { parseCertificate } from '../x509/parse.ts';
import { certificatePem } from '../x509/pem.ts';
import { isSignedBy } from './chain.ts';
import { judge } from './identity.ts';
import type { AuthorityState } from './rotation.ts';
import { isTrustDomain } from './spiffe.ts';

/**
 * Whom a node trusts, as one document with a sequence number: CAs with their states, task-signing certificates, the key
 * of audit heads. The control plane makes it, nodes get it at enrollment, at every renewal and over the link, keep it
 * on disk, and acknowledge its sequence: CA rotation waits for that. Equal bundles have equal bytes (JSON with fixed
 * key order, sorted lists), so that a digest names one.
 */
export interface BundleAuthority {
	readonly role: 'root' | 'node' | 'replica';
	readonly state: AuthorityState;
	readonly certificateDer: Uint8Array;
}

export interface TrustBundle {
	readonly trustDomain: string;
	/** Rises by at least one with every change; a node never goes back. */
	readonly sequence: number;
	readonly authorities: readonly BundleAuthority[];
	/** Certificates (DER) of the keys that sign task envelopes; old ones stay while their envelopes may be under way. */
	readonly taskSigners: readonly Uint8Array[];
	/** Ed25519 key of audit heads. */
	readonly auditKey: { readonly name: string; readonly spki: Uint8Array };
}

const FORMAT = 'gpuaas-trust-bundle-v1';
const BUNDLE_BYTES_MAX = 256 * 1024;
const LIST_MAX = 32;
const ROLES: readonly string[] = ['root', 'node', 'replica'] satisfies BundleAuthority['role'][];
const STATES: readonly string[] = ['active', 'next', 'old', 'tainted'] satisfies AuthorityState[];

export function encodeBundle(bundle: TrustBundle): Uint8Array {
	assert(isTrustDomain(bundle.trustDomain), 'a trust domain is a lower-case DNS name');
	assert(Number.isSafeInteger(bundle.sequence) && bundle.sequence > 0, 'a bundle has a sequence from 1');
	const authorities = bundle.authorities.map(({ role, state, certificateDer }) => ({
		role,
		state,
		certificate: base64(certificateDer),
	}));
	const document = {
		format: FORMAT,
		trust_domain: bundle.trustDomain,
		sequence: bundle.sequence,
		authorities: authorities.sort((a, b) => compare(`${a.role} ${a.certificate}`, `${b.role} ${b.certificate}`)),
		task_signers: bundle.taskSigners.map(base64).sort(compare),
		audit_key: { name: bundle.auditKey.name, spki: base64(bundle.auditKey.spki) },
	};
	return new Uint8Array(Buffer.from(JSON.stringify(document), 'utf8'));
}

/** Throws TRUST_BUNDLE_INVALID: a bundle that can't be read must not replace one that can. */
export function decodeBundle(bytes: Uint8Array): TrustBundle {
	if (bytes.length > BUNDLE_BYTES_MAX) throw invalid(`it is longer than ${BUNDLE_BYTES_MAX} bytes`);
	let document: unknown;
	try {
		document = JSON.parse(Buffer.from(bytes).toString('utf8'));
	} catch (error) {
		throw invalid('it is no JSON', error);
	}
	const fields = record(document);
	if (fields.format !== FORMAT) throw invalid(`its format is not ${FORMAT}`);
	const { trust_domain: trustDomain, sequence } = fields;
	if (typeof trustDomain !== 'string' || !isTrustDomain(trustDomain)) throw invalid('its trust domain is malformed');
	if (typeof sequence !== 'number' || !Number.isSafeInteger(sequence) || sequence < 1)
		throw invalid('it has no sequence');
	const auditKey = record(fields.audit_key);
	if (typeof auditKey.name !== 'string') throw invalid('its audit key has no name');
	return {
		trustDomain,
		sequence,
		authorities: list(fields.authorities).map(authorityOf),
		taskSigners: list(fields.task_signers).map(bytesOf),
		auditKey: { name: auditKey.name, spki: bytesOf(auditKey.spki) },
	};
}

function authorityOf(value: unknown): BundleAuthority {
	const { role, state, certificate } = record(value);
	if (!isRole(role) || !isState(state)) throw invalid('an authority has an unknown role or state');
	const certificateDer = bytesOf(certificate);
	const parsed = parseCertificate(certificateDer);
	if (parsed.kind === 'malformed' || !parsed.certificate.isCa) throw invalid('an authority is no CA certificate');
	return { role, state, certificateDer };
}

function isRole(value: unknown): value is BundleAuthority['role'] {
	return typeof value === 'string' && ROLES.includes(value);
}

function isState(value: unknown): value is AuthorityState {
	return typeof value === 'string' && STATES.includes(value);
}

function record(value: unknown): Record<string, unknown> {
	if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('an object is missing');
	return Object.fromEntries(Object.entries(value));
}

function list(value: unknown): unknown[] {
	if (!Array.isArray(value) || value.length > LIST_MAX) throw invalid(`a list is missing or longer than ${LIST_MAX}`);
	return value;
}

function bytesOf(value: unknown): Uint8Array {
	const bytes = typeof value === 'string' ? Buffer.from(value, 'base64') : undefined;
	if (!bytes || bytes.length === 0 || bytes.toString('base64') !== value) throw invalid('a value is no base64');
	return new Uint8Array(bytes);
}

function base64(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString('base64');
}

function compare(a: string, b: string): number {
	return a < b ? -1 : a > b ? 1 : 0;
}

function invalid(detail: string, cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'TRUST_BUNDLE_INVALID',
		message: `the trust bundle can't be used (${detail}); the one before stays in force, ask the control plane again`,
		...(cause === undefined ? {} : { cause }),
	});
}

export type BundleDecision =
	| { readonly kind: 'accept' }
	/** The same document again: acknowledge it. */
	| { readonly kind: 'same' }
	| { readonly kind: 'refused'; readonly message: string };

/** Whether a node takes `next` in place of `current`: never an older one, never another domain's. */
export function decideBundle(current: TrustBundle, next: TrustBundle): BundleDecision {
	if (next.trustDomain !== current.trustDomain)
		return { kind: 'refused', message: 'it belongs to another trust domain' };
	if (next.sequence > current.sequence) return { kind: 'accept' };
	if (Buffer.from(encodeBundle(next)).equals(encodeBundle(current))) return { kind: 'same' };
	const message = `its sequence ${next.sequence} is not above ${current.sequence}: the control plane was restored or rolled back`;
	return { kind: 'refused', message };
}

function keyIdOfCertificate(certificateDer: Uint8Array): string {
	const parsed = parseCertificate(certificateDer);
	assert(parsed.kind === 'ok', 'certificates in a bundle were parsed when it was made');
	return parsed.certificate.spkiSha256Hex;
}

/** What identityOf takes: issuing CAs of one kind, without tainted ones. Compute it once per bundle, not per stream. */
export function acceptedIssuerKeyIds(bundle: TrustBundle, role: 'node' | 'replica'): ReadonlySet<string> {
	const accepted = bundle.authorities.filter((authority) => authority.role === role && authority.state !== 'tainted');
	return new Set(accepted.map(({ certificateDer }) => keyIdOfCertificate(certificateDer)));
}

/** Roots as PEM, for `tls` (`ca`). */
export function rootsPem(bundle: TrustBundle): string[] {
	return bundle.authorities
		.filter(({ role }) => role === 'root')
		.map(({ certificateDer }) => certificatePem(certificateDer));
}

/**
 * The roots and every CA that one of them has signed, as PEM, for `tls` (`ca`) together with `allowPartialTrustChain`: a
 * path may end at an issuing CA, so that the root's P-384 signature over it is verified here, once a bundle, and not in
 * every handshake, of which it is the dearest part. A CA that is left out still needs its path to a root. Which issuers are
 * accepted is for `identityOf` to say, as ever.
 */
export function trustAnchorsPem(bundle: TrustBundle): string[] {
	const roots = bundle.authorities
		.filter(({ role }) => role === 'root')
		.map(({ certificateDer }) => keyOfCertificate(certificateDer))
		.filter((key) => key !== undefined);
	return bundle.authorities
		.filter(({ role, certificateDer }) => {
			const parsed = parseCertificate(certificateDer);
			return role === 'root' || (parsed.kind === 'ok' && roots.some((root) => isSignedBy(parsed.certificate, root)));
		})
		.map(({ certificateDer }) => certificatePem(certificateDer));
}

function keyOfCertificate(certificateDer: Uint8Array): VerifyKey | undefined {
	const parsed = parseCertificate(certificateDer);
	return parsed.kind === 'ok' ? VerifyKey.parse(parsed.certificate.spki) : undefined;
}

/** Key ids of the roots: what a join token pins. */
export function rootPins(bundle: TrustBundle): string[] {
	const roots = bundle.authorities.filter(({ role }) => role === 'root');
	return roots.map(({ certificateDer }) => keyIdOfCertificate(certificateDer));
}

/**
 * The keys that may sign task envelopes now: certificates with our own extended key usage, inside their validity, and
 * signed by a replica CA of this bundle that isn't tainted. One that fails is left out: no key, no task.
 */
export function taskSignerKeys(bundle: TrustBundle, nowMs: number): VerifyKey[] {
	const issuers = new Map<string, VerifyKey>();
	const accepted = acceptedIssuerKeyIds(bundle, 'replica');
	for (const { certificateDer } of bundle.authorities) {
		const parsed = parseCertificate(certificateDer);
		const key = parsed.kind === 'ok' ? VerifyKey.parse(parsed.certificate.spki) : undefined;
		if (key && accepted.has(key.keyId)) issuers.set(key.keyId, key);
	}
	const keys: VerifyKey[] = [];
	for (const certificateDer of bundle.taskSigners) {
		const parsed = parseCertificate(certificateDer);
		if (parsed.kind === 'malformed') continue;
		const { certificate } = parsed;
		const expected = { trustDomain: bundle.trustDomain, acceptedIssuerKeyIds: accepted, nowMs };
		const issuer = issuers.get(certificate.issuerKeyIdHex);
		const named = judge(certificate, { ...expected, expect: 'task-signer' });
		if (named.kind === 'refused' || !issuer || !isSignedBy(certificate, issuer)) continue;
		const key = VerifyKey.parse(certificate.spki);
		if (key) keys.push(key);
	}
	return keys;
}
