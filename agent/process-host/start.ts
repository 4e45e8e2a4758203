/** Connects to the host of a directory, and starts one first where none lives. Called by the agent's main. */
import { fileURLToPath } from 'node:url';
import { connectProcessHost, type SocketProcessHost } from './client.ts';
import { type DetachedProgram, type DetachedStart, hostUnit, startDetached } from './detached.ts';
import type { HostConfig } from './limits.ts';

const PROGRAM: DetachedProgram<SocketProcessHost> = {
	name: 'process host',
	mainPath: fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url)),
	connect: connectProcessHost,
};

export type StartOptions = DetachedStart<HostConfig>;

/** Resolves with a connection; rejects with UNAVAILABLE when the host fails, or doesn't come up within 20 s. */
export function startProcessHost(options: StartOptions): Promise<SocketProcessHost> {
	return startDetached(PROGRAM, options);
}

/** What a systemd unit of the host's own runs, in the unit's cgroup. */
export function prepareHostUnit(path: string, config: Partial<HostConfig>) {
	return hostUnit(PROGRAM, path, config);
}
