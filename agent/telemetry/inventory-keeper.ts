import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Clock } from '../../kit/clock.ts';
import type { Logger } from '../../kit/log.ts';
import { type InventoryReport, InventoryReportSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type Inventory, InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { MachineFacts } from '../platform/machine-facts.ts';
import { buildInventory, type GpuInputs } from './inventory.ts';
import { diffInventories } from './inventory-diff.ts';

/**
 * Keeps the inventory current: read at the first chance, again each hour and when the list of GPUs changed. The last
 * one that was reported is in the journal, so a restart that finds nothing new says nothing.
 */
export interface InventoryKeeperOptions {
	readonly clock: Clock;
	readonly log: Logger;
	readonly bootId: string;
	readonly procRoot: string;
	readonly sysRoot: string;
	readonly readMachine: () => Promise<MachineFacts | undefined>;
	/** Undefined: the probe is still on its way; ask again. */
	readonly readGpus: () => Promise<GpuInputs | undefined>;
	/** The last one that was stored. */
	readonly kept: string | undefined;
	/** Into the journal: the fact, and in the same commit `kept` for the next start. */
	readonly store: (report: InventoryReport, kept: string) => void;
}

const AGAIN_MS = 3_600_000;
const RETRY_MS = 60_000;
const DIGEST_DIGITS = 16;

export class InventoryKeeper {
	readonly #options: InventoryKeeperOptions;
	#current: Inventory | undefined;
	#machine: MachineFacts | undefined;
	/** On the monotonic clock. */
	#dueAtMs = Number.NEGATIVE_INFINITY;
	#isBusy = false;

	constructor(options: InventoryKeeperOptions) {
		this.#options = options;
		this.#current = decode(options.kept);
	}

	/** As it was last reported, also by the agent before this. */
	get current(): Inventory | undefined {
		return this.#current;
	}

	get shortDigest(): string {
		return this.#current?.digest.slice(0, DIGEST_DIGITS) ?? '';
	}

	/** Called with each sample; does something when it is time, or when `isChanged`. Never rejects. */
	async look(isChanged: boolean): Promise<void> {
		const { clock, log } = this.#options;
		if (isChanged) this.#dueAtMs = Number.NEGATIVE_INFINITY;
		if (this.#isBusy || clock.monotonic() < this.#dueAtMs) return;
		this.#isBusy = true;
		try {
			await this.#read();
		} catch (error) {
			log.warn('the inventory could not be read or kept', { error });
			this.#dueAtMs = Math.min(this.#dueAtMs, clock.monotonic() + RETRY_MS);
		} finally {
			this.#isBusy = false;
		}
	}

	async #read(): Promise<void> {
		const { clock, bootId, procRoot, sysRoot, readMachine, readGpus, store } = this.#options;
		// Before anything is waited for: what changes meanwhile makes it due again.
		this.#dueAtMs = clock.monotonic() + AGAIN_MS;
		const gpus = await readGpus();
		if (gpus === undefined) {
			this.#dueAtMs = Number.NEGATIVE_INFINITY;
			return;
		}
		// Firmware tables change with a reboot only, and reading them starts programs: until it went well, once an agent.
		this.#machine ??= await readMachine();
		const machine = this.#machine;
		const former = this.#current;
		const inventory = buildInventory({ nowMs: clock.now(), bootId, procRoot, sysRoot, machine, gpus, former });
		if (former?.digest === inventory.digest) return;
		const changes = former === undefined ? [] : [...diffInventories(former, inventory)];
		const report = create(InventoryReportSchema, { inventory, previousDigest: former?.digest ?? '', changes });
		store(report, Buffer.from(toBinary(InventorySchema, inventory)).toString('base64'));
		this.#current = inventory;
	}
}

function decode(text: string | undefined): Inventory | undefined {
	if (text === undefined) return undefined;
	try {
		return fromBinary(InventorySchema, Buffer.from(text, 'base64'));
	} catch {
		return undefined;
	}
}
