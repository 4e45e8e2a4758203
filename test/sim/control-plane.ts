import type { AnchoredHead } from '../../control-plane/app/audit/anchor.ts';
import { type Composition, compose } from './composition.ts';
import { SimAnchor } from './world/anchor.ts';
import { SimKeyStore } from './world/keys.ts';
import { simLogger } from './world/log.ts';
import type { Network } from './world/network.ts';
import { SimOutputStore } from './world/output-store.ts';
import type { Scheduler, SimProcess } from './world/scheduler.ts';
import { SimStore, type StoreDisk } from './world/store.ts';

/**
 * The control plane's machine: its disks, and one life of its process after another. It may be killed at any moment;
 * what the next life gets is the last commit, the key files, the signed heads and the output that was synced. Whoever
 * supervises it starts it again.
 */
const RESTART_MS = 1500;
/** Of a stop that is asked for: as control-plane/gateway/server.ts waits for streams to end. */
const STOP_MS = 1000;

/** One life of the process. */
export type Life = Composition;

/** What a control plane leaves on its disks. */
export interface ControlPlaneDisks {
	readonly image: Uint8Array | null;
	readonly keys: SimKeyStore;
	readonly anchored: readonly AnchoredHead[];
}

export interface ControlPlaneOptions {
	readonly scheduler: Scheduler;
	readonly network: Network;
	/** Of a first start that is over; undefined: nothing is there. */
	readonly disks: ControlPlaneDisks | undefined;
	readonly print: ((line: string) => void) | undefined;
	/** Whether it sees rotations of its certificate authority by itself. */
	readonly rotates: boolean;
}

export class SimControlPlane {
	readonly disk: StoreDisk = { fault: undefined, failsReads: false, crashIn: undefined, crashSide: 'before' };
	readonly clockOffset = { ms: 0 };
	readonly output = new SimOutputStore();
	/** The file of signed heads beside the database. */
	readonly anchor = new SimAnchor();
	readonly #options: ControlPlaneOptions;
	readonly #keys: SimKeyStore;
	readonly #onUp: ((life: Life) => void)[] = [];
	#image: Uint8Array | null;
	#process: SimProcess | undefined;
	#store: SimStore | undefined;
	#life: Life | undefined;
	#lives = 0;
	#tamper: (image: Uint8Array) => Uint8Array = (image) => image;

	constructor(options: ControlPlaneOptions) {
		this.#options = options;
		this.#image = options.disks?.image ?? null;
		this.#keys = new SimKeyStore(options.disks?.keys);
		this.anchor.heads.push(...(options.disks?.anchored ?? []));
	}

	/** The life that serves; undefined while it is down or starting. */
	get life(): Life | undefined {
		return this.#life?.process.alive === true ? this.#life : undefined;
	}

	get lives(): number {
		return this.#lives;
	}

	/** Told of each life that begins to serve. */
	onUp(listener: (life: Life) => void): void {
		this.#onUp.push(listener);
	}

	/** The last commit, whether anybody serves it or not. */
	image(): Uint8Array | null {
		return this.#store?.snapshot() ?? this.#image;
	}

	disks(): ControlPlaneDisks {
		return { image: this.image(), keys: this.#keys, anchored: [...this.anchor.heads] };
	}

	/** Injects a bug: what is committed from here on is gone after the next crash. */
	forgetCommits(): void {
		this.#store?.forgetFromHere();
	}

	/** Injects a bug: somebody changes the disk while the process is down. */
	tamperAtCrash(change: (image: Uint8Array) => Uint8Array): void {
		this.#tamper = change;
	}

	start(): void {
		if (this.#process?.alive === true) return;
		this.#lives += 1;
		const { scheduler } = this.#options;
		const process = scheduler.process(`cp ${this.#lives}`, this.clockOffset);
		this.#process = process;
		scheduler.note(`cp ${this.#lives} starts`);
		this.#open(process).catch((error: unknown) => {
			scheduler.note(`cp ${this.#lives} did not start: ${error instanceof Error ? error.message : String(error)}`);
			if (process.alive) this.kill('it did not start');
		});
	}

	/** SIGTERM: it sends everybody away, finishes what it is at, and ends. */
	stop(): void {
		const life = this.life;
		if (life === undefined) return;
		const { scheduler, network } = this.#options;
		scheduler.note(`cp ${this.#lives} is asked to stop`);
		network.listen(undefined);
		void life.link
			.shutdown()
			.then(() => life.scope[Symbol.asyncDispose]())
			.then(
				() => life.process.after(STOP_MS, () => this.kill('it stopped as it was asked to')),
				() => this.kill('it could not stop'),
			);
	}

	/** kill -9. */
	kill(why: string): void {
		const process = this.#process;
		if (process?.alive !== true) return;
		const { scheduler, network } = this.#options;
		scheduler.note(`cp ${this.#lives} killed: ${why}`);
		process.kill();
		// Its ports are dead: this only ends what waits, which Node else keeps in memory for as long as it waits.
		void this.#life?.scope[Symbol.asyncDispose]();
		this.#life = undefined;
		network.listen(undefined);
		if (this.#store !== undefined) this.#image = this.#tamper(this.#store.crash());
		this.#store = undefined;
		this.output.crash();
		network.breakAllWires('reset');
		scheduler.after(RESTART_MS, () => this.start());
	}

	async #open(process: SimProcess): Promise<void> {
		const { network, print, scheduler, rotates } = this.#options;
		const store = new SimStore(this.#image, this.disk, process, () => this.kill('at a commit'));
		this.#store = store;
		const { output, anchor } = this;
		const log = simLogger(process, print);
		const life = await compose({ process, store, keys: this.#keys, output, anchor, log, rotates });
		if (!process.alive) return;
		network.listen(life.endpoint);
		this.#life = life;
		scheduler.note(`cp ${this.#lives} serves`);
		for (const listener of this.#onUp) listener(life);
	}
}
