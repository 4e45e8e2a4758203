import { readFileSync } from 'node:fs';
import { DEFAULT_POLICY } from '../health/default-policy.ts';
import { missingRules } from '../health/missing-rules.ts';
import { parsePolicy } from '../health/parse-policy.ts';
import type { PolicyDocument } from '../health/policy.ts';
import { GpuaasError, messageOf } from '../kit/error.ts';
import type { Logger } from '../kit/log.ts';
import { chainOrigin } from '../pki/verify/chain-head.ts';
import { certificatePem, certificatesOfPem } from '../pki/x509/pem.ts';
import type { ReplicaCredential } from './app/certificates/replica-certificate.ts';
import type { RunningAuthority } from './app/certificates/running-authority.ts';
import { APP_LIMITS_DEFAULT, type AppLimits } from './app/deps.ts';
import { isCovered } from './app/iam/cidr.ts';
import type { LoginSettings } from './app/login/settings.ts';
import type { ControlPlaneConfig } from './config.ts';
import type { GatewayIdentity } from './gateway/credentials.ts';
import { isLoopback, type OpsAccess } from './ops/access.ts';

/** What serve.ts hands to its parts, made from the configuration and the authority. */
export function appLimits({ gateway, terminals, recordings, health, ca }: ControlPlaneConfig): AppLimits {
	return {
		...APP_LIMITS_DEFAULT,
		leaseTtlFloorMs: gateway.leaseTtlFloorMs,
		hellosPerSecondMax: gateway.hellosPerSecond,
		nodeCertificateTtlMs: gateway.certificateTtlMs,
		terminalsOpenPerPersonMax: terminals.openPerPersonMax,
		terminalGraceMs: terminals.graceMs,
		terminalIdleMs: terminals.idleMs,
		terminalLengthMaxMs: terminals.lengthMaxMs,
		terminalPurposeRequired: terminals.purposeRequired,
		execRecordedOnly: recordings.mode === 'fail_closed' && !recordings.unrecordedExec,
		forwardNever: networksOf(terminals.forwardNever),
		selfRotation: { ...APP_LIMITS_DEFAULT.selfRotation, isOn: ca.selfRotation, beforeMs: ca.rotateBeforeMs },
		quarantine: {
			...APP_LIMITS_DEFAULT.quarantine,
			percentMax: health.quarantinePercent,
			nodesMax: health.quarantineNodes,
			domainLabel: health.quarantineDomainLabel,
			domainPercentMax: health.quarantineDomainPercent,
			attemptsMax: health.quarantineAttempts,
		},
	};
}

/** Throws CONFIG_INVALID: what a node could not read would close nothing. */
function networksOf(ranges: readonly string[]): readonly string[] {
	const wrong = ranges.find((range) => !isCovered(['0.0.0.0/0', '::/0'], range));
	if (wrong === undefined) return ranges;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'CONFIG_INVALID',
		message: `[terminals] forward_never: ${wrong} is no network in CIDR form, such as 10.0.0.0/8`,
	});
}

/** Throws HEALTH_POLICY_INVALID with what is wrong in the file. `log`: where what it lacks is said. */
export function healthPolicy({ health }: ControlPlaneConfig, log?: Logger): PolicyDocument {
	if (health.policyFile === undefined) return DEFAULT_POLICY;
	const document = readHealthPolicy(health.policyFile);
	parsePolicy(document);
	const policy = document as PolicyDocument;
	const checks = missingRules(policy);
	if (checks.length > 0)
		log?.warn(
			'the health policy of the file lacks rules of the one that ships: its general rules judge these facts, or none',
			{
				...{ file: health.policyFile, checks, compareWith: 'gpuaas health policy show --json' },
			},
		);
	return policy;
}

function readHealthPolicy(file: string): unknown {
	try {
		return JSON.parse(readFileSync(file, 'utf8'));
	} catch (error) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'HEALTH_POLICY_INVALID',
			message: `[health] policy_file ${file} is no JSON that can be read: ${messageOf(error)}`,
		});
	}
}

export function loginSettings({ oidc, edge }: ControlPlaneConfig): LoginSettings {
	const { issuers, cliClient, stepUpAcr, stepUpMaxAgeMs } = oidc;
	return { issuers, cliClient, stepUpAcr, stepUpMaxAgeMs, edge: edge.kind === 'none' ? '' : edge.kind };
}

/**
 * Node certificates chain to the same root; OpenSSL judges the path, the stream guard everything else. The root itself, last
 * in a credential for whoever enrolls, is left out: every agent has it, and would parse it in each handshake.
 */
export function gatewayIdentity({ chainPem, keyPem }: ReplicaCredential, authority: RunningAuthority): GatewayIdentity {
	const roots = new Set(authority.rootsPem());
	const chain = certificatesOfPem(chainPem).map(certificatePem);
	return {
		chainPem: chain.filter((pem) => !roots.has(pem)).join(''),
		keyPem,
		clientAnchorsPem: authority.trustAnchorsPem(),
	};
}

/** `log`: its number, which stands beside the anchored heads. */
export function auditSigning(authority: RunningAuthority, log: number) {
	const { trustDomain, auditSigner, auditKeyName } = authority;
	const formerOrigins = Array.from({ length: log - 1 }, (_, index) => chainOrigin(trustDomain, index + 1));
	return { signer: auditSigner, keyName: auditKeyName, origin: chainOrigin(trustDomain, log), formerOrigins };
}

/** On loopback whoever is on this host; elsewhere the listener's certificate and the token of the file. */
export function opsAccess(config: ControlPlaneConfig, { chainPem, keyPem }: ReplicaCredential): OpsAccess {
	const { host, tokenFile } = config.ops;
	const bearer = tokenFile === undefined ? {} : { bearerToken: readFileSync(tokenFile, 'utf8').trim() };
	return isLoopback(host) ? bearer : { ...bearer, tls: { chainPem, keyPem } };
}
