import { accessSync, constants, readFileSync, realpathSync, statSync } from 'node:fs';
import { GpuaasError, messageOf } from '../kit/error.ts';
import { uuidv7 } from '../kit/ids.ts';
import type { Logger } from '../kit/log.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { HostFacts } from './control/control-deps.ts';
import { passwdHomes } from './platform/accounts.ts';
import type { PlatformFacts } from './platform/facts.ts';
import { machineRebooter } from './platform/reboot.ts';
import type { DeviceGuard } from './tasks/device-guard.ts';
import { DENY_ALL, type Policy, parsePolicy } from './tasks/policy.ts';
import type { RunnerPlatform } from './tasks/runner-deps.ts';

/** Without a file nothing is allowed; a file that can't be understood stops the agent rather than allow the wrong thing. */
export function readPolicy(path: string, log: Logger): Policy {
	let text: string;
	try {
		text = readFileSync(path, 'utf8');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'CONFIG_INVALID',
				message: `the policy can't be read: ${messageOf(error)}`,
			});
		}
		log.warn('no policy file: every task will be refused', { path });
		return DENY_ALL;
	}
	return parsePolicy(text, path);
}

export function runnerPlatform(
	facts: PlatformFacts,
	{ version, config, recentLog }: AgentDeps,
	injectFaults: RunnerPlatform['injectFaults'],
): RunnerPlatform {
	return {
		bootId: facts.bootId,
		agentVersion: version,
		ownUser: facts.ownUser,
		findHome: passwdHomes(),
		...programLooks,
		rebooter: machineRebooter({ isContainer: facts.isContainer, isAllowed: config.tasks.rebootAllowed }),
		recentLog,
		injectFaults,
	};
}

/** Looks at this host's disk, for the policy. */
export const programLooks = { isExecutable, realPath } as const;

function realPath(path: string): string | undefined {
	try {
		return realpathSync.native(path);
	} catch {
		return undefined;
	}
}

function isExecutable(path: string): boolean {
	try {
		accessSync(path, constants.X_OK);
		return statSync(path).isFile();
	} catch {
		return false;
	}
}

export function hostFacts(
	{ clock, rng, version }: AgentDeps,
	facts: PlatformFacts,
	devices: Pick<DeviceGuard, 'isolation' | 'mechanism' | 'isLeaky'>,
): HostFacts {
	return {
		bootId: facts.bootId,
		agentVersion: version,
		get capabilities() {
			return capabilities(facts, devices);
		},
		hostname: facts.hostname,
		instanceId: uuidv7(clock.now(), rng),
	};
}

function capabilities(
	facts: PlatformFacts,
	{ isolation, mechanism, isLeaky }: Pick<DeviceGuard, 'isolation' | 'mechanism' | 'isLeaky'>,
): readonly string[] {
	const devices = isolation === 'off' ? 'off' : mechanism;
	return [
		'task.run',
		'task.collect_bundle',
		'task.inject_fault',
		...(facts.isContainer ? ['container'] : ['task.reboot']),
		...(devices === undefined ? [] : [`devices.${devices}`]),
		// Said by `node show`: some account of tenants can have programs started that are held to nothing.
		...(isLeaky ? ['devices.user_managers'] : []),
	];
}
