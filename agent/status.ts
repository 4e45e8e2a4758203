import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Clock } from '../kit/clock.ts';
import type { Rng } from '../kit/ids.ts';
import type { AgentConfig } from './config.ts';
import { identityStatus } from './identity/status.ts';
import { loadIdentity } from './identity/stored-identity.ts';
import { readHostLock } from './process-host/lock.ts';
import { foldersOf } from './settings.ts';

/** What this host holds, from its data folder alone: it works while the agent is down or doesn't answer. */
export interface AgentStatus {
	readonly enrolled: boolean;
	readonly nodeId: string;
	readonly nodeName: string;
	readonly generation: number;
	readonly trustDomain: string;
	readonly certificate: { readonly state: string; readonly message: string; readonly clockMessage: string };
	/** As the agent last wrote it; null when it never did. */
	readonly link: { readonly phase: string; readonly gateway: string; readonly asOf: string } | null;
	readonly processHostAlive: boolean;
}

const STALE_MS = 30_000;

export async function readAgentStatus(config: AgentConfig, clock: Clock, rng: Rng): Promise<AgentStatus> {
	const folders = foldersOf(config);
	const identity = loadIdentity(folders.identity, rng);
	const snapshot = await readSnapshot(folders.status);
	const none = { state: 'none', message: 'not enrolled yet: get a token with gpuaas token create', clockMessage: '' };
	const now = clock.now();
	const certificate =
		identity === undefined
			? none
			: identityStatus(identity, now, {
					clockOffsetMs: snapshot?.link.clockOffsetMs ?? null,
					isRecovering: false,
					lastError: '',
				});
	const isStale = snapshot === undefined || now - Date.parse(snapshot.at) > STALE_MS;
	return {
		enrolled: identity !== undefined,
		nodeId: identity?.nodeId ?? '',
		nodeName: identity?.nodeName ?? '',
		generation: identity?.generation ?? 0,
		trustDomain: identity?.trustDomain ?? '',
		certificate: isStale ? certificate : (snapshot?.certificate ?? certificate),
		link:
			snapshot === undefined
				? null
				: {
						phase: isStale ? 'agent not running' : snapshot.link.phase,
						gateway: snapshot.link.gateway,
						asOf: snapshot.at,
					},
		processHostAlive: existsSync(folders.processHost) && readHostLock(folders.processHost)?.alive === true,
	};
}

interface Snapshot {
	readonly at: string;
	readonly certificate: AgentStatus['certificate'];
	readonly link: { readonly phase: string; readonly gateway: string; readonly clockOffsetMs?: number };
}

async function readSnapshot(path: string): Promise<Snapshot | undefined> {
	try {
		return JSON.parse(await readFile(path, 'utf8')) as Snapshot;
	} catch {
		return undefined;
	}
}

export function statusText(status: AgentStatus): string {
	const lines = [
		status.enrolled
			? `node ${status.nodeName} (${status.nodeId}), generation ${status.generation}, ${status.trustDomain}`
			: 'no identity',
		status.certificate.message,
		status.certificate.clockMessage,
		status.link === null
			? 'link: never connected'
			: `link: ${status.link.phase} (${status.link.gateway}), as of ${status.link.asOf}`,
		`process host: ${status.processHostAlive ? 'running' : 'not running'}`,
	];
	return `${lines.filter((line) => line !== '').join('\n')}\n`;
}
