/** Connects to the pty host of a directory, and starts one first where none lives. Called by the agent's main. */
import { fileURLToPath } from 'node:url';
import { type DetachedProgram, type DetachedStart, hostUnit, startDetached } from '../process-host/detached.ts';
import { connectPtyHost, type SocketPtyHost } from './client.ts';
import type { PtyHostConfig } from './limits.ts';

const PROGRAM: DetachedProgram<SocketPtyHost> = {
	name: 'pty host',
	mainPath: fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url)),
	connect: connectPtyHost,
};

/** Resolves with a connection; rejects with UNAVAILABLE when the host fails, or doesn't come up within 20 s. */
export function startPtyHost(options: DetachedStart<PtyHostConfig>): Promise<SocketPtyHost> {
	return startDetached(PROGRAM, options);
}

/** What a systemd unit of the host's own runs, in the unit's cgroup. */
export function preparePtyHostUnit(path: string, config: Partial<PtyHostConfig>) {
	return hostUnit(PROGRAM, path, config);
}
