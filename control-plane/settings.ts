import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { type LoadedConfig, loadConfig } from '../kit/config.ts';
import type { DaemonArgs } from '../kit/config-args.ts';
import { GpuaasError, messageOf } from '../kit/error.ts';
import { isRealm, type KeycloakDirectorySettings } from './adapters/oidc/keycloak-directory.ts';
import type { ScimDirectorySettings } from './adapters/oidc/scim-directory.ts';
import type { WebClientSettings } from './adapters/oidc/web-client.ts';
import { CONTROL_PLANE_SCHEMA, type ControlPlaneConfig } from './config.ts';

/** Reads file, environment and flags into one object. Throws CONFIG_INVALID with every problem. */
export function loadSettings(args: DaemonArgs, env: NodeJS.ProcessEnv): LoadedConfig<typeof CONTROL_PLANE_SCHEMA> {
	const path = args.configPath;
	return loadConfig(CONTROL_PLANE_SCHEMA, {
		...(path === undefined ? {} : { file: { path, text: readConfigFile(path) } }),
		env,
		overrides: args.overrides,
		// Of the command and of an agent, which may share this shell.
		foreignEnv: ['GPUAAS_CONFIG_DIR', 'GPUAAS_CONTEXT', 'GPUAAS_DEBUG'],
	});
}

function readConfigFile(path: string): string {
	try {
		return readFileSync(path, 'utf8');
	} catch (error) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'CONFIG_INVALID',
			message: `the configuration file can't be read: ${messageOf(error)}`,
		});
	}
}

/** One line that nobody else on the host may read. Throws CONFIG_INVALID. */
function readSecretFile(path: string): string {
	const text = readConfigFile(path).trim();
	const mode = statSync(path).mode & 0o777;
	if ((mode & 0o177) === 0) return text;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message: `${path} holds a secret and has mode 0${mode.toString(8)}, so others on this host may read it; replace the secret if they could have, then chmod 0600`,
	});
}

/** Where this control plane keeps what, below its data folder. */
export interface ControlPlaneFolders {
	readonly storeUrl: string;
	readonly keys: string;
	readonly pepper: string;
	readonly output: string;
	readonly recordings: string;
	readonly heads: string;
	readonly auditKey: string;
	readonly ca: string;
	readonly operatorKey: string;
	/** Telemetry rollups: outside truth and backup. */
	readonly history: string;
	/** Requests that wait to be pushed to monitoring. */
	readonly push: string;
}

export function foldersOf(config: ControlPlaneConfig): ControlPlaneFolders {
	const { data } = config.core;
	return {
		storeUrl: config.store.url ?? join(data, 'control-plane.db'),
		keys: join(data, 'keys'),
		pepper: join(data, 'keys', 'pepper'),
		output: join(data, 'output'),
		recordings: join(data, 'recordings'),
		heads: config.audit.headsFile ?? join(data, 'audit-heads.jsonl'),
		auditKey: join(data, 'audit.vkey'),
		ca: join(data, 'ca.pem'),
		operatorKey: join(data, 'operator.key'),
		history: join(data, 'telemetry-history.db'),
		push: join(data, 'telemetry-push'),
	};
}

/** What the listeners' certificate names beside `gateway.<trust domain>`: what clients and agents dial. */
export function listenerNames(config: ControlPlaneConfig): {
	readonly dnsNames: readonly string[];
	readonly ipAddresses: readonly string[];
} {
	const hosts = ['localhost', '127.0.0.1', '::1', ...config.api.names];
	for (const host of [config.api.host, config.gateway.host, config.enroll.host]) {
		if (host !== '0.0.0.0' && host !== '::') hosts.push(host);
	}
	const unique = [...new Set(hosts)];
	return {
		dnsNames: unique.filter((host) => isIP(host) === 0),
		ipAddresses: unique.filter((host) => isIP(host) !== 0),
	};
}

/** Of the providers' directory; undefined when it is not turned on. Throws CONFIG_INVALID when half of it is there. */
export function directorySettings({ oidc }: Pick<ControlPlaneConfig, 'oidc'>): KeycloakDirectorySettings | undefined {
	const { directoryClient: clientId, directorySecretFile, issuers } = oidc;
	if (clientId === undefined) return undefined;
	const clientSecret = directorySecretFile === undefined ? '' : readSecretFile(directorySecretFile);
	if (clientSecret !== '' && issuers.some(isRealm)) return { clientId, clientSecret, issuers };
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message:
			'[oidc] directory_client needs directory_secret_file, which holds its secret, and an issuer that is a realm of a Keycloak (https://HOST/realms/NAME)',
	});
}

/** Of a directory by SCIM; undefined when it is not turned on. Throws CONFIG_INVALID when half of it is there. */
export function scimSettings({ oidc }: Pick<ControlPlaneConfig, 'oidc'>): ScimDirectorySettings | undefined {
	const { scimUrl: url, scimTokenFile, scimIssuer, scimSubject: subject, issuers } = oidc;
	if (url === undefined) return undefined;
	const token = scimTokenFile === undefined ? '' : readSecretFile(scimTokenFile);
	const issuer = scimIssuer ?? issuers[0] ?? '';
	// Else fetch refuses the header with all of it in its message, which is logged.
	if (token !== '' && !/^[\x21-\x7e]+$/.test(token))
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'CONFIG_INVALID',
			message:
				'[oidc] scim_token_file holds more than one token: it must be one line of printable ASCII without spaces',
		});
	if (token !== '' && issuers.includes(issuer)) return { issuer, url, token, subject };
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message:
			'[oidc] scim_url needs scim_token_file, which holds its token, and a scim_issuer that is one of the issuers',
	});
}

/** Of browser sessions; undefined when they are not turned on. Throws CONFIG_INVALID when half of it is there. */
export function webClientSettings({ oidc }: Pick<ControlPlaneConfig, 'oidc'>): WebClientSettings | undefined {
	const { consoleUrl, consoleClient, consoleSecretFile } = oidc;
	if (consoleUrl === undefined) return undefined;
	const clientSecret = consoleSecretFile === undefined ? '' : readSecretFile(consoleSecretFile);
	if (clientSecret === '' || oidc.issuers.length === 0) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'CONFIG_INVALID',
			message: '[oidc] console_url needs issuers and console_secret_file, which holds the secret of the console client',
		});
	}
	return { clientId: consoleClient, clientSecret, origin: new URL(consoleUrl).origin };
}
