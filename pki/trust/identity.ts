import { type ParsedCertificate, parseCertificate } from '../x509/parse.ts';
import { gatewayDnsName, type IdentityKind, parseSpiffeId } from './spiffe.ts';

/**
 * Who a peer is, from its raw leaf certificate. TLS has proved that the peer holds the key and that the chain ends in
 * our root; that isn't enough, because a leaf of a revoked issuing CA passes TLS until it expires, and nodes, replicas
 * and task signers share the root. So this runs on *every* stream open (never once per connection) in the gateway's
 * interceptor, in the mesh, and in the agent against the gateway. Revocation of single leaves (the denylist) and
 * two-slot rules need the store: the caller checks them with `serialHex` and `spkiSha256Hex`.
 */
export const EKU_SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
export const EKU_CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** Signs task envelopes. Our own, under the UUID arc (X.667), which needs no registration. */
export const EKU_TASK_SIGNING = '2.25.127296400505211350389839980057032087974';

export type IdentityRefusal =
	| 'CERTIFICATE_MALFORMED'
	| 'CERTIFICATE_PROFILE_INVALID'
	| 'CERTIFICATE_WRONG_TRUST_DOMAIN'
	| 'CERTIFICATE_WRONG_KIND'
	| 'CERTIFICATE_ISSUER_NOT_ACCEPTED'
	| 'CERTIFICATE_NOT_YET_VALID'
	| 'CERTIFICATE_EXPIRED';

export interface Identity {
	readonly kind: 'ok';
	/** Last segment of the SPIFFE id: node id, replica id or task signer name. */
	readonly id: string;
	readonly serialHex: string;
	readonly spkiSha256Hex: string;
	readonly issuerKeyIdHex: string;
	readonly notBeforeMs: number;
	/** No stream may outlive it: TLS doesn't look again. */
	readonly notAfterMs: number;
}

export interface IdentityRefused {
	readonly kind: 'refused';
	readonly reason: IdentityRefusal;
	readonly message: string;
}

export interface IdentityExpectation {
	readonly trustDomain: string;
	/** Key ids of the issuing CAs of that kind: trust/bundle.ts `acceptedIssuerKeyIds`. */
	readonly acceptedIssuerKeyIds: ReadonlySet<string>;
	readonly expect: IdentityKind;
	readonly nowMs: number;
	/** Grace at both ends of the validity. Default 0: leaves are backdated by 60 s, and TLS grants none either. */
	readonly clockSkewMs?: number;
}

function refused(reason: IdentityRefusal, message: string): IdentityRefused {
	return { kind: 'refused', reason, message };
}

export function identityOf(leafDer: Uint8Array, expected: IdentityExpectation): Identity | IdentityRefused {
	const parsed = parseCertificate(leafDer);
	if (parsed.kind === 'malformed') {
		return refused('CERTIFICATE_MALFORMED', `the peer's certificate can't be read (${parsed.detail})`);
	}
	return judge(parsed.certificate, expected);
}

/** As `identityOf`, for a certificate that was parsed already. */
export function judge(leaf: ParsedCertificate, expected: IdentityExpectation): Identity | IdentityRefused {
	const profile = profileFault(leaf, expected.expect);
	if (profile !== undefined) return refused('CERTIFICATE_PROFILE_INVALID', `the certificate ${profile}`);
	const named = parseSpiffeId(leaf.uriSans[0] ?? '');
	if (!named) return refused('CERTIFICATE_PROFILE_INVALID', "the certificate's URI name is not one of ours");
	if (named.trustDomain !== expected.trustDomain) {
		const message = `the certificate belongs to trust domain ${named.trustDomain}, and this is ${expected.trustDomain}`;
		return refused('CERTIFICATE_WRONG_TRUST_DOMAIN', message);
	}
	if (named.kind !== expected.expect) {
		const message = `a ${named.kind} certificate was presented where only a ${expected.expect} certificate is accepted`;
		return refused('CERTIFICATE_WRONG_KIND', message);
	}
	if (expected.expect === 'replica' && !leaf.dnsSans.includes(gatewayDnsName(expected.trustDomain))) {
		const message = `the replica certificate doesn't name ${gatewayDnsName(expected.trustDomain)}`;
		return refused('CERTIFICATE_PROFILE_INVALID', message);
	}
	if (!expected.acceptedIssuerKeyIds.has(leaf.issuerKeyIdHex)) {
		const message = `the certificate was issued by key ${leaf.issuerKeyIdHex || '(none named)'}, which is not accepted here`;
		return refused('CERTIFICATE_ISSUER_NOT_ACCEPTED', message);
	}
	const validity = validityFault(leaf, expected.nowMs, expected.clockSkewMs ?? 0);
	if (validity) return validity;
	const { serialHex, spkiSha256Hex, issuerKeyIdHex, notBeforeMs, notAfterMs } = leaf;
	return { kind: 'ok', id: named.id, serialHex, spkiSha256Hex, issuerKeyIdHex, notBeforeMs, notAfterMs };
}

/** X509-SVID sections 2 to 5, narrowed to what we issue. */
function profileFault(leaf: ParsedCertificate, kind: IdentityKind): string | undefined {
	if (leaf.isCa) return 'is a CA certificate';
	if (leaf.keyUsage.has('keyCertSign') || leaf.keyUsage.has('cRLSign')) return 'may sign certificates';
	if (!leaf.keyUsage.has('digitalSignature')) return 'may not sign (key usage)';
	if (leaf.uriSans.length !== 1) return `has ${leaf.uriSans.length} URI names, and exactly one is required`;
	if (kind === 'node' && leaf.sanCount !== 1) return 'has names beside its URI name';
	const wanted = kind === 'task-signer' ? [EKU_TASK_SIGNING] : [EKU_SERVER_AUTH, EKU_CLIENT_AUTH];
	const exact = leaf.ekus.length === wanted.length && wanted.every((eku) => leaf.ekus.includes(eku));
	return exact ? undefined : `has the extended key usages [${leaf.ekus.join(', ')}], not those of a ${kind}`;
}

function validityFault(leaf: ParsedCertificate, nowMs: number, skewMs: number): IdentityRefused | undefined {
	if (nowMs + skewMs < leaf.notBeforeMs) {
		const aheadS = Math.ceil((leaf.notBeforeMs - nowMs) / 1000);
		return refused('CERTIFICATE_NOT_YET_VALID', `the certificate is valid only in ${aheadS} s; compare the clocks`);
	}
	// RFC 5280 section 4.1.2.5 counts the last second in; OpenSSL doesn't, and we are never more lenient than TLS.
	if (nowMs - skewMs >= leaf.notAfterMs) {
		const agoS = Math.floor((nowMs - leaf.notAfterMs) / 1000);
		return refused('CERTIFICATE_EXPIRED', `the certificate expired ${agoS} s ago; the agent must recover`);
	}
	return undefined;
}
