import { GpuaasError } from '../../kit/error.ts';
import { acceptedIssuerKeyIds, decodeBundle, type TrustBundle } from '../../pki/trust/bundle.ts';
import { isSignedBy } from '../../pki/trust/chain.ts';
import { judge } from '../../pki/trust/identity.ts';
import { VerifyKey } from '../../pki/verify/signature.ts';
import { parseCertificate } from '../../pki/x509/parse.ts';
import { assertChained } from './bundle.ts';

/**
 * What a host was given must fit together before it replaces what it has: a leaf for its own key and node, signed by a
 * node CA of the bundle, and a bundle that knows the listener that sent it.
 */
export interface IssuedExpectation {
	readonly trustDomain: string;
	/** Of the key in the request. */
	readonly keyId: string;
	/** Issuer of the certificate of whoever answered. */
	readonly replicaIssuerKeyId: string;
}

export function checkIssued(
	issued: { readonly nodeId: string; readonly chain: readonly Uint8Array[]; readonly bundle: Uint8Array },
	expected: IssuedExpectation,
): void {
	const bundle = decodeBundle(issued.bundle);
	if (bundle.trustDomain !== expected.trustDomain) throw unfit('its trust bundle belongs to another trust domain');
	assertChained(bundle);
	if (!acceptedIssuerKeyIds(bundle, 'replica').has(expected.replicaIssuerKeyId)) {
		throw unfit('its trust bundle does not know the listener that sent it');
	}
	checkChain(issued, bundle, expected);
}

/** The part that renewal over the link needs, too: the gateway was judged when the link was opened. */
export function checkChain(
	issued: { readonly nodeId: string; readonly chain: readonly Uint8Array[] },
	bundle: TrustBundle,
	{ trustDomain, keyId }: Pick<IssuedExpectation, 'trustDomain' | 'keyId'>,
): void {
	const [leafDer] = issued.chain;
	const parsed = leafDer === undefined ? undefined : parseCertificate(leafDer);
	if (parsed?.kind !== 'ok') throw unfit('it holds no certificate that can be read');
	const leaf = parsed.certificate;
	if (leaf.spkiSha256Hex !== keyId) throw unfit('its certificate is for another key');
	// Time is left out: this host's clock may be the one that is wrong, and `status` says so.
	const identity = judge(leaf, {
		trustDomain,
		acceptedIssuerKeyIds: acceptedIssuerKeyIds(bundle, 'node'),
		expect: 'node',
		nowMs: leaf.notBeforeMs,
	});
	if (identity.kind === 'refused') throw unfit(identity.message);
	if (identity.id !== issued.nodeId) throw unfit('its certificate names another node');
	const isSigned = bundle.authorities.some(({ certificateDer }) => {
		const ca = parseCertificate(certificateDer);
		const key = ca.kind === 'ok' ? VerifyKey.parse(ca.certificate.spki) : undefined;
		return key !== undefined && isSignedBy(leaf, key);
	});
	if (!isSigned) throw unfit('its certificate is not signed by a CA of its trust bundle');
}

function unfit(detail: string): GpuaasError {
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'CERTIFICATE_MALFORMED',
		message: `the control plane's answer was refused: ${detail}; nothing was stored`,
	});
}
