/**
 * Which boxes this machine and the configuration allow. Looked for once, when a host starts: our place in cgroup v2, with
 * or without the controllers that set limits; then what can hold programs to a list of devices. Each is tried before it
 * is relied on. Called by the mains of both hosts.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, sleep } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import type { LaunchLimits } from '../tasks/process-host.ts';
import { BoxRemover } from './box-remover.ts';
import { loadBpf } from './bpf.ts';
import { CgroupBox, killCgroup, readCgroup, removeCgroup, removeTree } from './cgroup.ts';
import { CgroupMoves } from './cgroup-moves.ts';
import { bpfGroups, GROUP } from './device-bpf.ts';
import { cgroup1Groups, findOwnDevices } from './device-cgroup1.ts';
import { DeviceGroups, type DeviceKind, type DevicePlace, TRIAL_RULES, tryOutRules } from './device-groups.ts';
import { sweepLeftTrees } from './left-trees.ts';
import { type BoxFactory, sessionBox, type TaskBox } from './task-box.ts';

const CONTROLLERS = ['memory', 'pids', 'cpu'];
/** How names of tasks' cgroups begin. */
const TASK = 'task-';
/** Of the trials at the start. */
const PROBE = 'probe';

export interface BoxOptions {
	readonly clock: Clock;
	readonly mode: 'auto' | 'delegated' | 'off';
	/** Makes the name of our cgroup unique. */
	readonly id: string;
	readonly log: (line: string) => void;
}

/** Our part of cgroup v2. */
interface Tree {
	/** Where the cgroups of tasks are. */
	readonly base: string;
	/** Where this process is. */
	readonly home: string;
	readonly isBaseOurs: boolean;
	readonly moves: CgroupMoves;
	/** Whether the controllers are there that set limits. */
	readonly bounds: boolean;
}

interface Devices {
	readonly groups: DeviceGroups;
	/** Of cgroup v1, for boxes that make no step of their own. */
	readonly step: (<T>(work: () => T) => Promise<T>) | undefined;
	close(): void;
}

/** Who was killed is gone in a moment, if not stuck in the kernel; then it is the next host's. */
const EMPTY_ROUNDS_MAX = 100;
const EMPTY_ROUND_MS = 20;

export async function chooseBoxes(options: BoxOptions): Promise<BoxFactory> {
	const tree = await openTree(options);
	const devices = await openDevices(options, tree);
	const { groups, step = async (work) => work() } = devices;
	const { bounds = false } = tree ?? {};
	const remover = new BoxRemover(options.clock);
	const make = (name: string, limits: LaunchLimits, place: DevicePlace | undefined): TaskBox => {
		if (tree === undefined) return sessionBox(limits, place, step);
		const cgroup = join(place?.folder ?? tree.base, `${TASK}${name}`);
		return new CgroupBox({ cgroup, moves: tree.moves, limits, bounds, place, remover });
	};
	return {
		limits: bounds ? 'cgroup2' : 'rlimit',
		containment: tree === undefined ? 'session' : 'cgroup2',
		devices: groups.mechanism,
		turn: () => groups.turn(),
		create(name, limits, confine, turn) {
			// Somebody else may have removed it while nobody was inside.
			if (tree !== undefined && !existsSync(tree.base)) makeBase(tree.base);
			const place = confine === undefined ? undefined : groups.take(confine, turn);
			try {
				return make(name, limits, place);
			} catch (error) {
				place?.release();
				throw error;
			}
		},
		allowDevices: (allow) => groups.update(allow),
		async close() {
			remover.close();
			if (tree !== undefined) await clear(options.clock, tree.base);
			await settled(options.clock, () => groups.close());
			devices.close();
			if (tree === undefined) return;
			tree.moves.close();
			if (!tree.isBaseOurs) removeCgroup(tree.base);
		},
	};
}

/** Undefined when tasks can't have cgroups of their own here. */
async function openTree({ clock, mode, id, log }: BoxOptions): Promise<Tree | undefined> {
	const own = mode === 'off' ? undefined : findOwn();
	if (own === undefined || (mode === 'auto' && own.path !== '/')) return undefined;
	const ownFolder = join(own.mount, own.path);
	const isBaseOurs = mode === 'delegated';
	const base = isBaseOurs ? ownFolder : join(ownFolder, `gpuaas-${id}`);
	const home = isBaseOurs ? join(ownFolder, 'host') : ownFolder;
	try {
		if (!isBaseOurs) sweepLeftTrees(ownFolder, `gpuaas-${id}`, log);
		if (isBaseOurs) mkdirSync(home, { recursive: true });
		// A cgroup that hands out controllers must not hold processes itself.
		writeFileSync(join(home, 'cgroup.procs'), '0');
		if (!isBaseOurs) enableControllers(ownFolder);
		makeBase(base);
		const enabled = readCgroup(join(base, 'cgroup.subtree_control')).split(/\s+/);
		const bounds = CONTROLLERS.every((controller) => enabled.includes(controller));
		const moves = new CgroupMoves(clock, home);
		const cgroup = join(base, PROBE);
		const remover = new BoxRemover(clock);
		removeCgroup(cgroup);
		const probe = new CgroupBox({ cgroup, moves, limits: {}, bounds: false, place: undefined, remover });
		await probe.bear(() => undefined);
		if (!probe.kill() || !probe.remove()) return undefined;
		await clear(clock, base);
		return { base, home, isBaseOurs, moves, bounds };
	} catch {
		return undefined;
	}
}

/** Mount point of the cgroup v2 hierarchy and our own place in it. */
function findOwn(): { readonly mount: string; readonly path: string } | undefined {
	const path = /^0::(\/.*)$/m.exec(readCgroup('/proc/self/cgroup'))?.[1];
	const mount = /^\S+ \S+ \S+ \S+ (\S+) [^-]*- cgroup2 /m.exec(readCgroup('/proc/self/mountinfo'))?.[1];
	return path === undefined || mount === undefined ? undefined : { mount, path };
}

/** Ready to have cgroups of tasks below it; also where it is there. */
function makeBase(base: string): void {
	mkdirSync(base, { recursive: true });
	enableControllers(base);
}

function enableControllers(folder: string): void {
	for (const controller of CONTROLLERS) {
		try {
			writeFileSync(join(folder, 'cgroup.subtree_control'), `+${controller}`);
		} catch {
			// Not available here, or held by cgroup v1: the caller looks at what was enabled.
		}
	}
}

/** What ended tasks left there, and what a host before this one left: nobody owns who is still inside. */
async function clear(clock: Clock, base: string): Promise<void> {
	await settled(clock, () => clearOnce(base));
}

/** True when nothing is left. */
function clearOnce(base: string): boolean {
	const isGone = readdirSync(base).map((name) => {
		const path = join(base, name);
		if (name.startsWith(GROUP)) clearOnce(path);
		// Of a host that died in its trial.
		else if (!name.startsWith(TASK) && name !== PROBE) return true;
		killCgroup(path);
		return removeTree(path);
	});
	return !isGone.includes(false);
}

async function settled(clock: Clock, isDone: () => boolean): Promise<void> {
	for (let round = 0; round < EMPTY_ROUNDS_MAX && !isDone(); round += 1) await sleep(clock, EMPTY_ROUND_MS);
}

async function openDevices(options: BoxOptions, tree: Tree | undefined): Promise<Devices> {
	const { clock, mode, log } = options;
	const unusable = (what: string, error: unknown) =>
		log(`${what} can't hold programs to a list of devices here: ${messageOf(error)}`);
	if (tree !== undefined) {
		try {
			const kind = bpfGroups(await loadBpf(), tree.base, enableControllers);
			await tryOut(kind, (cgroup, work) => tree.moves.inside(cgroup ?? tree.home, work, () => undefined));
			return { groups: new DeviceGroups(clock, kind), step: undefined, close: () => undefined };
		} catch (error) {
			unusable('eBPF on cgroup v2', error);
		}
	}
	if (mode !== 'off') {
		try {
			return await openDevices1(options, tree);
		} catch (error) {
			unusable('cgroup v1', error);
		}
	}
	return { groups: new DeviceGroups(clock, undefined), step: undefined, close: () => undefined };
}

async function openDevices1({ clock, mode, id, log }: BoxOptions, tree: Tree | undefined): Promise<Devices> {
	const own = findOwnDevices(readCgroup('/proc/self/cgroup'), readCgroup('/proc/self/mountinfo'));
	if (own === undefined) throw new Error('it has no controller of devices that is mounted');
	if (mode === 'auto' && own.path !== '/') throw new Error('this process is in a cgroup of somebody else');
	const home = join(own.mount, own.path);
	sweepLeftTrees(home, `gpuaas-${id}`, log);
	const kind = cgroup1Groups(home, join(home, `gpuaas-${id}`));
	// A step that leads nowhere warms the kernel's lock for those that follow it.
	const moves = tree === undefined ? new CgroupMoves(clock, home) : undefined;
	const step = <T>(work: () => T) => (moves ?? (tree as Tree).moves).inside(tree?.home ?? home, work, () => undefined);
	const close = () => {
		moves?.close();
		kind.close();
	};
	try {
		await tryOut(kind, (_cgroup, work) => step(work));
	} catch (error) {
		close();
		throw error;
	}
	return { groups: new DeviceGroups(clock, kind), step, close };
}

/** Rejects unless this process, once inside such a group, is refused what the rules don't name. */
async function tryOut(
	kind: DeviceKind,
	step: (cgroup: string | undefined, work: () => void) => Promise<void>,
): Promise<void> {
	const group = kind.open('trial');
	const below = group.folder === undefined ? undefined : join(group.folder, PROBE);
	try {
		// A host that was killed in its trial has left it; what goes wrong here must not hide what went wrong there.
		if (below !== undefined) removeCgroup(below);
		group.apply(TRIAL_RULES);
		if (below !== undefined) mkdirSync(below);
		await step(below, () => group.within(tryOutRules));
	} finally {
		if (below !== undefined) removeCgroup(below);
		group.remove();
	}
}
