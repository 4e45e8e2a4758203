import { readFileSync } from 'node:fs';
import { chainOrigin } from '../pki/verify/chain-head.ts';
import type { ReplicaCredential } from './app/certificates/replica-certificate.ts';
import type { RunningAuthority } from './app/certificates/running-authority.ts';
import { APP_LIMITS_DEFAULT, type AppLimits } from './app/deps.ts';
import type { ControlPlaneConfig } from './config.ts';
import type { GatewayIdentity } from './gateway/credentials.ts';
import { isLoopback, type OpsAccess } from './ops/access.ts';

/** What serve.ts hands to its parts, made from the configuration and the authority. */
export function appLimits({ gateway }: ControlPlaneConfig): AppLimits {
	return {
		...APP_LIMITS_DEFAULT,
		leaseTtlFloorMs: gateway.leaseTtlFloorMs,
		hellosPerSecondMax: gateway.hellosPerSecond,
		nodeCertificateTtlMs: gateway.certificateTtlMs,
	};
}

/** Node certificates chain to the same root; OpenSSL judges the path, the stream guard everything else. */
export function gatewayIdentity({ chainPem, keyPem }: ReplicaCredential, authority: RunningAuthority): GatewayIdentity {
	return { chainPem, keyPem, clientRootsPem: authority.rootsPem() };
}

export function auditSigning(authority: RunningAuthority) {
	const origin = chainOrigin(authority.trustDomain);
	return { signer: authority.auditSigner, keyName: authority.auditKeyName, origin };
}

/** On loopback whoever is on this host; elsewhere the listener's certificate and the token of the file. */
export function opsAccess(config: ControlPlaneConfig, { chainPem, keyPem }: ReplicaCredential): OpsAccess {
	const { host, tokenFile } = config.ops;
	const bearer = tokenFile === undefined ? {} : { bearerToken: readFileSync(tokenFile, 'utf8').trim() };
	return isLoopback(host) ? bearer : { ...bearer, tls: { chainPem, keyPem } };
}
