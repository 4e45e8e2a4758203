import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Clock } from '../kit/clock.ts';
import { readDirectoryLock } from '../kit/directory-lock.ts';
import type { Rng } from '../kit/ids.ts';
import type { AgentConfig } from './config.ts';
import { identityStatus } from './identity/status.ts';
import { loadIdentity } from './identity/stored-identity.ts';
import { foldersOf } from './settings.ts';
import type { TelemetryStatus } from './telemetry/telemetry.ts';

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
	/** What holds programs of assignments to their devices; null when the agent doesn't run. */
	readonly devices: {
		readonly isolation: string;
		readonly mechanism: string;
		/** Whose programs can leave, and what to do about it; absent in what an older agent wrote. */
		readonly leaks?: readonly string[];
	} | null;
	/** What ends with the agent and elsewhere outlives it, as the agent last wrote it; empty: nothing does. */
	readonly survivalMessage: string;
	/** As the agent last wrote it; null when it never did, or telemetry is off. */
	readonly telemetry: TelemetryStatus | null;
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
		processHostAlive: existsSync(folders.processHost) && readDirectoryLock(folders.processHost)?.alive === true,
		devices: isStale ? null : (snapshot?.devices ?? null),
		survivalMessage: snapshot?.survival ?? '',
		telemetry: isStale ? null : (snapshot?.telemetry ?? null),
	};
}

interface Snapshot {
	readonly at: string;
	readonly certificate: AgentStatus['certificate'];
	readonly telemetry: TelemetryStatus | null;
	readonly devices?: AgentStatus['devices'];
	/** Absent in what an older agent wrote. */
	readonly survival?: string;
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
		deviceText(status.devices),
		status.survivalMessage,
		gpuText(status.telemetry),
	];
	return `${lines.filter((line) => line !== '').join('\n')}\n`;
}

const HELD_BY: Readonly<Record<string, string>> = {
	bpf: 'eBPF on cgroup v2',
	cgroup1: 'the devices controller of cgroup v1',
	none: 'nothing that this host has',
};

function deviceText(devices: AgentStatus['devices']): string {
	if (devices === null) return '';
	const { isolation, mechanism, leaks = [] } = devices;
	if (isolation === 'off') return 'devices: tenants are not held to any (devices.isolation of the policy)';
	const held = `devices: tenants are held to theirs by ${HELD_BY[mechanism] ?? 'what its hosts will say'} (${isolation} by the policy)`;
	return [held, ...leaks.map((leak) => `devices: ${leak}`)].join('\n');
}

function gpuText(telemetry: TelemetryStatus | null): string {
	if (telemetry === null) return '';
	const { probe, gpus, driver, isSimulated, message, restarts, misses } = telemetry;
	if (probe === 'no-hardware') return 'GPUs: none on this host, so no probe runs';
	const origin = isSimulated ? ' SIMULATED by the test double of the driver' : '';
	const what = driver === '' ? message : `${gpus} GPUs, driver ${driver}${origin}`;
	const trouble = restarts + misses === 0 ? '' : `, ${restarts} restarts, ${misses} samples missed`;
	return `GPU probe: ${probe}${what === '' ? '' : ` (${what})`}${trouble}`;
}
