import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LoadedConfig, loadConfig } from '../kit/config.ts';
import type { DaemonArgs } from '../kit/config-args.ts';
import { GpuaasError, messageOf } from '../kit/error.ts';
import { AGENT_SCHEMA, type AgentConfig } from './config.ts';

/** Reads file, environment and flags into one object. Throws CONFIG_INVALID with every problem. */
export function loadSettings(args: DaemonArgs, env: NodeJS.ProcessEnv): LoadedConfig<typeof AGENT_SCHEMA> {
	const path = args.configPath;
	return loadConfig(AGENT_SCHEMA, {
		...(path === undefined ? {} : { file: { path, text: readConfigFile(path) } }),
		env,
		overrides: args.overrides,
		// Of the command and of the control plane, which may share this shell.
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

/** Where this agent keeps what, below its data folder. */
export interface AgentFolders {
	readonly identity: string;
	readonly journal: string;
	readonly processHost: string;
	readonly ptyHost: string;
	readonly status: string;
	readonly auditHead: string;
	readonly probe: string;
	/** Which processes ask disks. */
	readonly disks: string;
}

export function foldersOf(config: AgentConfig): AgentFolders {
	const { data } = config.core;
	return {
		identity: join(data, 'identity'),
		journal: join(data, 'journal.db'),
		processHost: join(data, 'process-host'),
		ptyHost: join(data, 'pty-host'),
		status: join(data, 'status.json'),
		auditHead: join(data, 'audit-head'),
		probe: join(data, 'probe'),
		disks: join(data, 'disks'),
	};
}
