import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Who starts the hosts of tasks and terminals. Where systemd runs, each has a unit of its own, whose cgroup is delegated to
 * it. A host that the agent started instead would be in the agent's unit: it could hold nobody to their devices, and the
 * next stop of the agent would kill it with all that people run in it.
 */
export const HOST_STARTERS = ['auto', 'units', 'agent'] as const;
type HostStarter = (typeof HOST_STARTERS)[number];

const UNITS = { processHost: 'gpuaas-process-host.service', ptyHost: 'gpuaas-pty-host.service' } as const;
const FOLDERS = [
	'etc/systemd/system',
	'run/systemd/system',
	'usr/local/lib/systemd/system',
	'usr/lib/systemd/system',
	'lib/systemd/system',
];

/** The unit that starts a host; undefined: the agent does. */
export function unitOf(host: keyof typeof UNITS, starter: HostStarter, root = '/'): string | undefined {
	const unit = UNITS[host];
	if (starter === 'agent') return undefined;
	if (starter === 'units') return unit;
	return isService(root) && FOLDERS.some((folder) => existsSync(join(root, folder, unit))) ? unit : undefined;
}

/** Whether this process is in a service of the machine's own systemd, not in a person's session or a container. */
function isService(root: string): boolean {
	let groups: string;
	try {
		groups = readFileSync(join(root, 'proc/self/cgroup'), 'utf8');
	} catch {
		return false;
	}
	return groups.split('\n').some((line) => /^\d+:(?:name=systemd)?:\/(?!.*user@).*\.service$/.test(line));
}
