import { execFile } from 'node:child_process';
import { GpuaasError, messageOf } from '../../kit/error.ts';

/**
 * Restarts the machine. The only place that can; refused unless `isAllowed`, which the main sets from its environment
 * (never in tests, never in a container), on top of the node's own policy.
 */
export interface Rebooter {
	/** Why it can't be done here; undefined when it can. */
	readonly refusal: string | undefined;
	/** Resolves when the machine was told; it goes down soon after. */
	reboot(): Promise<void>;
}

export function machineRebooter(
	facts: { readonly isContainer: boolean; readonly isAllowed: boolean },
	run: (command: string, args: readonly string[]) => Promise<void> = runProgram,
): Rebooter {
	const refusal = facts.isContainer
		? 'the agent runs in a container, which a reboot would not restart'
		: facts.isAllowed
			? undefined
			: 'the agent was not started with permission to restart this machine';
	return {
		refusal,
		async reboot() {
			if (refusal !== undefined) throw failed(refusal);
			try {
				await run('/usr/bin/systemctl', ['reboot']).catch(() => run('/sbin/reboot', []));
			} catch (error) {
				throw failed(messageOf(error), error);
			}
		},
	};
}

const TIMEOUT_MS = 30_000;

function runProgram(command: string, args: readonly string[]): Promise<void> {
	return new Promise((resolve, reject) => {
		const options = { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, timeout: TIMEOUT_MS };
		execFile(command, [...args], options, (error) => (error === null ? resolve() : reject(error)));
	});
}

function failed(message: string, cause?: unknown): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason: 'REBOOT_NOT_ALLOWED', message, cause });
}
