import { fileURLToPath } from 'node:url';
import { loaderArgs } from '../../kit/loader-args.ts';
import type { FindHome } from '../platform/accounts.ts';
import type { Confinement } from '../platform/device-rules.ts';
import type { Refusal } from './facts.ts';
import type { Decision, Permit } from './permit.ts';
import type { HostCapabilities, LaunchLimits, LaunchRefusal, LaunchRequest, TaskKey } from './process-host.ts';

/** From what the policy permits to what the process host starts, and from its refusals to ours. */
export interface LaunchContext {
	readonly ownUser: string;
	readonly findHome: FindHome;
	/** Between SIGTERM and SIGKILL at the timeout. */
	readonly graceMs: number;
	/** What the task's bundle may hold of the agent's own log. */
	readonly recentLog: () => string;
}

/** The host keeps at least this much. */
const OUTPUT_CAP_BYTES_MIN = 4096;

export function launchRequest(
	key: TaskKey,
	decision: Extract<Decision, { readonly kind: 'permit' }>,
	permit: Exclude<Permit, { readonly kind: 'reboot' | 'inject_fault' }>,
	capabilities: HostCapabilities,
	context: LaunchContext,
	confine: Confinement | undefined,
): LaunchRequest {
	const { taskId, attempt } = key;
	const home = context.findHome(permit.user) ?? '/';
	const about = {
		HOME: home,
		USER: permit.user,
		LOGNAME: permit.user,
		LANG: 'C.UTF-8',
		GPUAAS_TASK_ID: taskId,
		GPUAAS_TASK_ATTEMPT: String(attempt),
	};
	const program =
		permit.kind === 'run'
			? { argv: permit.argv, env: { ...about, ...permit.env }, cwd: permit.cwd === '' ? home : permit.cwd }
			: {
					argv: bundleArgv(permit.parts),
					env: { ...about, PATH: SYSTEM_PATH },
					cwd: '/',
					// Handed over, since the account that collects may read none of the agent's files.
					...(permit.parts.includes('agent') && { stdin: Buffer.from(context.recentLog()) }),
				};
	// Without the means to switch users, the own user is what tasks run as anyway, and naming it would be refused.
	const user = !capabilities.userSwitch && permit.user === context.ownUser ? {} : { user: permit.user };
	return {
		taskId,
		attempt,
		...program,
		...user,
		...(permit.kind === 'run' && { limits: limitsOf(permit.limits) }),
		...(confine !== undefined && { confine }),
		timeoutMs: decision.timeoutMs,
		graceMs: context.graceMs,
		outputCapBytes: Math.min(capabilities.outputCapBytesMax, Math.max(OUTPUT_CAP_BYTES_MIN, decision.outputBytesMax)),
	};
}

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

function limitsOf({ cpuMilli, ...rest }: Extract<Permit, { readonly kind: 'run' }>['limits']): LaunchLimits {
	return { ...rest, ...(cpuMilli !== undefined && { cpuQuota: cpuMilli / 1000 }) };
}

function bundleArgv(parts: readonly string[]): readonly string[] {
	const name = import.meta.url.endsWith('.ts') ? './bundle-main.ts' : './bundle-main.js';
	const main = fileURLToPath(new URL(name, import.meta.url));
	return [process.execPath, '--disable-warning=ExperimentalWarning', ...loaderArgs(), main, ...parts];
}

/** `wait`: the host has no room now; the attempt stays accepted and is tried again. */
export function refusalOf(reason: LaunchRefusal, message: string): Refusal | 'wait' {
	switch (reason) {
		case 'TOO_MANY_TASKS':
		case 'TOO_MANY_RETAINED':
		// The spool is promised to tasks that run, and comes back with their ends; no cap is larger than all of it.
		case 'SPOOL_FULL':
		case 'SHUTTING_DOWN':
			return 'wait';
		case 'DISK_FULL':
			return { reason, message, retryable: true };
		case 'USER_SWITCH_UNAVAILABLE':
			return { reason: 'POLICY_USER', message, retryable: false };
		case 'INVALID_REQUEST':
			return { reason: 'ENVELOPE_MALFORMED', message, retryable: false };
		case 'SPAWN_FAILED':
			return { reason: 'INTERNAL', message, retryable: false };
		default:
			return { reason, message, retryable: false };
	}
}
