import { type DataFolder, openDataFolder, readPorts, storePorts } from './data-folder.ts';
import { isFree, PORT_NAMES, type Ports } from './ports.ts';

/**
 * Starts the control plane on ports that it really gets. A port that `up` picked was free when it was looked at and may be
 * anybody's before the control plane binds it: then others are picked. What a person asked for, or an earlier start had, is
 * never exchanged, because others know it.
 */
export interface ClaimOptions<Child> {
	readonly root: string;
	/** By flags. */
	readonly chosen: Partial<Ports>;
	readonly policy: string;
	readonly start: (folder: DataFolder) => Child | Promise<Child>;
	/** Rejects when it doesn't come up. */
	readonly ready: (child: Child) => Promise<unknown>;
	readonly onTaken: (names: readonly string[]) => Promise<void>;
	readonly signal: AbortSignal;
}

/** A host where somebody takes every free port at once has another problem. */
const PICKS_MAX = 3;

export async function startOnPorts<Child extends AsyncDisposable>(
	options: ClaimOptions<Child>,
): Promise<{ readonly folder: DataFolder; readonly child: Child }> {
	const { root, chosen, policy, start, ready, onTaken, signal } = options;
	const fixed = { ...(await readPorts(root)), ...chosen };
	for (let pick = 1; ; pick += 1) {
		const folder = await openDataFolder(root, chosen, policy);
		const child = await start(folder);
		try {
			await ready(child);
			return { folder, child };
		} catch (error) {
			await child[Symbol.asyncDispose]();
			const taken = await takenOf(folder.ports, fixed);
			// They were never ours: neither this start nor the next one may insist on them.
			await storePorts(root, fixed);
			if (taken.length === 0 || pick === PICKS_MAX || signal.aborted) throw error;
			await onTaken(taken);
		}
	}
}

async function takenOf(ports: Ports, fixed: Partial<Ports>): Promise<readonly string[]> {
	const picked = PORT_NAMES.filter((name) => fixed[name] === undefined);
	const free = await Promise.all(picked.map((name) => isFree(ports[name])));
	return picked.filter((_, index) => !free[index]);
}
