import { accessSync, constants, readFileSync, realpathSync, statSync } from 'node:fs';
import { GpuaasError, messageOf } from '../kit/error.ts';
import { uuidv7 } from '../kit/ids.ts';
import type { Logger } from '../kit/log.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { HostFacts } from './control/control-deps.ts';
import { passwdHomes } from './platform/accounts.ts';
import type { PlatformFacts } from './platform/facts.ts';
import { machineRebooter } from './platform/reboot.ts';
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

export function runnerPlatform(facts: PlatformFacts, { version, config }: AgentDeps): RunnerPlatform {
	return {
		bootId: facts.bootId,
		agentVersion: version,
		ownUser: facts.ownUser,
		findHome: passwdHomes(),
		isExecutable,
		realPath,
		rebooter: machineRebooter({ isContainer: facts.isContainer, isAllowed: config.tasks.rebootAllowed }),
		agentLogs: '',
	};
}

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

export function hostFacts({ clock, rng, version }: AgentDeps, facts: PlatformFacts): HostFacts {
	return {
		bootId: facts.bootId,
		agentVersion: version,
		capabilities: capabilities(facts),
		hostname: facts.hostname,
		instanceId: uuidv7(clock.now(), rng),
	};
}

function capabilities(facts: PlatformFacts): readonly string[] {
	return ['task.run', 'task.collect_bundle', ...(facts.isContainer ? ['container'] : ['task.reboot'])];
}
