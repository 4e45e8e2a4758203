import { GpuaasError } from '../../kit/error.ts';
import {
	acceptedIssuerKeyIds,
	decideBundle,
	rootPins,
	rootsPem,
	type TrustBundle,
	trustAnchorsPem,
} from '../../pki/trust/bundle.ts';
import { isSignedBy } from '../../pki/trust/chain.ts';
import { VerifyKey } from '../../pki/verify/signature.ts';
import { parseCertificate } from '../../pki/x509/parse.ts';
import type { AgentBundle } from './identity.ts';

export function agentBundleOf(bundle: TrustBundle): AgentBundle {
	return {
		seq: bundle.sequence,
		rootsPem: rootsPem(bundle).join(''),
		trustAnchorsPem: trustAnchorsPem(bundle).join(''),
		replicaIssuers: acceptedIssuerKeyIds(bundle, 'replica'),
		taskSigners: bundle.taskSigners,
	};
}

/** True when `next` replaces `current`, false when it is the same one; throws TRUST_BUNDLE_INVALID for all others. */
export function assertFollows(current: TrustBundle, next: TrustBundle): boolean {
	const decision = decideBundle(current, next);
	if (decision.kind === 'same') return false;
	// An older one on a link that was opened before a newer came is no attack: it is just late.
	if (next.trustDomain === current.trustDomain && next.sequence < current.sequence) return false;
	if (decision.kind === 'refused') throw invalid(decision.message);
	const known = new Set(rootPins(current));
	if (!rootPins(next).every((pin) => known.has(pin))) {
		throw invalid('it names a root that this host was not enrolled under');
	}
	assertChained(next);
	return true;
}

/** Every CA of the bundle is signed by a root of it. */
export function assertChained(bundle: TrustBundle): void {
	const roots = bundle.authorities.filter(({ role }) => role === 'root').map((root) => keyOf(root.certificateDer));
	for (const { certificateDer } of bundle.authorities) {
		const parsed = parseCertificate(certificateDer);
		const isChained = parsed.kind === 'ok' && roots.some((root) => root && isSignedBy(parsed.certificate, root));
		if (!isChained) throw invalid('it names a CA that none of its roots has signed');
	}
}

function keyOf(certificateDer: Uint8Array): VerifyKey | undefined {
	const parsed = parseCertificate(certificateDer);
	return parsed.kind === 'ok' ? VerifyKey.parse(parsed.certificate.spki) : undefined;
}

function invalid(detail: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'TRUST_BUNDLE_INVALID',
		message: `the trust bundle was refused: ${detail}; the one before stays in force`,
	});
}
