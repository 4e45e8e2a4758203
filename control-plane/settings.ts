import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { type LoadedConfig, loadConfig } from '../kit/config.ts';
import type { DaemonArgs } from '../kit/config-args.ts';
import { GpuaasError, messageOf } from '../kit/error.ts';
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

/** Where this control plane keeps what, below its data folder. */
export interface ControlPlaneFolders {
	readonly storeUrl: string;
	readonly keys: string;
	readonly pepper: string;
	readonly output: string;
	readonly heads: string;
	readonly auditKey: string;
	readonly ca: string;
	readonly operatorKey: string;
}

export function foldersOf(config: ControlPlaneConfig): ControlPlaneFolders {
	const { data } = config.core;
	return {
		storeUrl: config.store.url ?? join(data, 'control-plane.db'),
		keys: join(data, 'keys'),
		pepper: join(data, 'keys', 'pepper'),
		output: join(data, 'output'),
		heads: config.audit.headsFile ?? join(data, 'audit-heads.jsonl'),
		auditKey: join(data, 'audit.vkey'),
		ca: join(data, 'ca.pem'),
		operatorKey: join(data, 'operator.key'),
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
