import { createSecureContext, type PeerCertificate, type SecureContext } from 'node:tls';
import type { Clock } from '../../kit/clock.ts';
import { identityOf } from '../../pki/trust/identity.ts';
import type { AgentBundle, AgentCredential } from '../identity/identity.ts';
import type { LinkTarget } from './link-transport.ts';

/** TLS of every connection to a gateway: 1.3, with the node's certificate, and only to a replica of our trust domain. */
export interface LinkTls {
	readonly secureContext: SecureContext;
	readonly checkServerIdentity: (host: string, certificate: PeerCertificate) => Error | undefined;
}

export function linkTls(clock: Clock, { trustDomain, credential, bundle }: LinkTarget): LinkTls {
	return {
		secureContext: contextOf(credential, bundle),
		checkServerIdentity: (_host, certificate) => {
			const identity = identityOf(new Uint8Array(certificate.raw), {
				trustDomain,
				acceptedIssuerKeyIds: bundle.replicaIssuers,
				expect: 'replica',
				nowMs: clock.now(),
			});
			return identity.kind === 'ok' ? undefined : new Error(`this is not a gateway: ${identity.message}`);
		},
	};
}

/** Dials with the same credential share one: to read keys and certificates costs as much as half a handshake. */
const contexts = new WeakMap<AgentCredential, { readonly bundle: AgentBundle; readonly context: SecureContext }>();

function contextOf(credential: AgentCredential, bundle: AgentBundle): SecureContext {
	const known = contexts.get(credential);
	if (known?.bundle === bundle) return known.context;
	const context = createSecureContext({
		cert: credential.chainPem,
		key: credential.keyPem,
		ca: bundle.trustAnchorsPem,
		allowPartialTrustChain: true,
		minVersion: 'TLSv1.3',
	});
	contexts.set(credential, { bundle, context });
	return context;
}
