import type { SimControlPlane } from './control-plane.ts';
import type { SimNode } from './node.ts';
import type { Network } from './world/network.ts';
import type { SeededRng } from './world/random.ts';
import type { Scheduler } from './world/scheduler.ts';

/**
 * Everything that goes wrong, planned from the seed. Each seed has a few kinds of fault that come often (a swarm of
 * seeds finds more than all kinds at once in each): crashes between and at commits, networks that reset, go silent,
 * are slow or half-open, disks that are full or broken, clocks that jump, hosts that die, machines that restart.
 */
interface ChaosParts {
	readonly scheduler: Scheduler;
	readonly rng: SeededRng;
	readonly network: Network;
	readonly controlPlane: SimControlPlane;
	readonly nodes: readonly SimNode[];
}

type Fault = (parts: ChaosParts, node: SimNode) => void;

/** Undoes a fault after a while, unless everything was healed before. */
function forAWhile({ scheduler, rng }: ChaosParts, maxMs: number, undo: () => void): void {
	scheduler.after(rng.float() ** 2 * maxMs, undo);
}

const FAULTS: Readonly<Record<string, Fault>> = {
	'agent dies': (_parts, node) => node.killAgent('chaos'),
	'agent dies at a commit': ({ rng }, node) => {
		node.disk.crashIn = rng.int(1, 6);
		node.disk.crashSide = rng.chance(0.5) ? 'before' : 'after';
	},
	'agent stops': (_parts, node) => node.stopAgent(),
	'control plane stops': ({ controlPlane }) => controlPlane.stop(),
	'control plane dies': ({ controlPlane }) => controlPlane.kill('chaos'),
	'control plane dies at a commit': ({ rng, controlPlane }) => {
		controlPlane.disk.crashIn = rng.int(1, 12);
		controlPlane.disk.crashSide = rng.chance(0.5) ? 'before' : 'after';
	},
	'connection reset': ({ network }, node) => network.breakWires(node.name, 'reset'),
	'connection half-open': ({ network, rng }, node) => network.breakWires(node.name, rng.pick(['up', 'down', 'both'])),
	partition: (parts, node) => {
		const { network, rng } = parts;
		const path = network.path(node.name);
		path.reach = rng.pick(['refused', 'silent']);
		network.breakWires(node.name, rng.pick(['reset', 'both', 'both', 'up', 'down']));
		forAWhile(parts, 90_000, () => {
			path.reach = 'open';
		});
	},
	'slow network': (parts, node) => {
		const { network, rng } = parts;
		const path = network.path(node.name);
		path.latencyMs = rng.int(50, 2000);
		path.jitterMs = rng.int(0, 3000);
		path.windowBytes = rng.int(256, 16_384);
		forAWhile(parts, 60_000, () => healPath(network, node));
	},
	'keepalive blind': ({ network }, node) => {
		network.path(node.name).keepaliveMs = Number.POSITIVE_INFINITY;
	},
	'journal lost': (_parts, node) => node.loseJournal(),
	'process host dies': (_parts, node) => node.host.kill(),
	'machine restarts': (_parts, node) => node.reboot(),
	'journal disk': (parts, node) => {
		node.disk.fault = parts.rng.pick(['FULL', 'IOERR']);
		forAWhile(parts, 20_000, () => {
			node.disk.fault = undefined;
		});
	},
	'host disk': (parts, node) => {
		node.host.fault = parts.rng.pick(['DISK_FULL', 'TOO_MANY_TASKS']);
		forAWhile(parts, 20_000, () => {
			node.host.fault = undefined;
		});
	},
	'store disk': (parts) => {
		const { disk } = parts.controlPlane;
		disk.fault = parts.rng.pick(['FULL', 'IOERR']);
		disk.failsReads = parts.rng.chance(0.3);
		forAWhile(parts, 15_000, () => {
			disk.fault = undefined;
		});
	},
	'disk of audit heads': (parts) => {
		const { anchor } = parts.controlPlane;
		anchor.isFull = true;
		forAWhile(parts, 20_000, () => {
			anchor.isFull = false;
		});
	},
	'output disk': (parts) => {
		parts.controlPlane.output.isFull = true;
		forAWhile(parts, 20_000, () => {
			parts.controlPlane.output.isFull = false;
		});
	},
	"node's clock jumps": (parts, node) => {
		node.clockOffset.ms += parts.rng.int(-120_000, 120_000);
	},
	"control plane's clock jumps": (parts) => {
		parts.controlPlane.clockOffset.ms += parts.rng.int(-20_000, 20_000);
	},
};

export class Chaos {
	readonly #parts: ChaosParts;

	constructor(parts: ChaosParts) {
		this.#parts = parts;
	}

	plan(fromMs: number, untilMs: number): void {
		const { scheduler, rng, nodes } = this.#parts;
		const kinds = Object.keys(FAULTS);
		const often = new Set(Array.from({ length: rng.int(1, 5) }, () => rng.pick(kinds)));
		for (const [name, fault] of Object.entries(FAULTS)) {
			for (let times = often.has(name) ? rng.int(2, 10) : rng.int(0, 1); times > 0; times -= 1) {
				const node = rng.pick(nodes);
				scheduler.at(rng.int(fromMs, untilMs), () => {
					scheduler.note(`fault: ${name} (${node.name})`);
					fault(this.#parts, node);
				});
			}
		}
	}

	/** No faults from now on, and those that last are over. What they broke is for the system to mend. */
	heal(): void {
		const { scheduler, network, controlPlane, nodes } = this.#parts;
		scheduler.note('everything heals');
		controlPlane.disk.fault = undefined;
		controlPlane.disk.crashIn = undefined;
		controlPlane.output.isFull = false;
		controlPlane.anchor.isFull = false;
		controlPlane.clockOffset.ms = 0;
		for (const node of nodes) {
			node.disk.fault = undefined;
			node.disk.crashIn = undefined;
			node.host.fault = undefined;
			node.clockOffset.ms = 0;
			network.path(node.name).reach = 'open';
			network.path(node.name).keepaliveMs = 15_000;
			healPath(network, node);
		}
	}
}

function healPath(network: Network, node: SimNode): void {
	Object.assign(network.path(node.name), { latencyMs: 1, jitterMs: 5, windowBytes: 1024 * 1024 });
}
