import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DiskHangWatch } from '../../agent/telemetry/disk-hang-watch.ts';
import { type DiskHealthOptions, DiskHealthReader } from '../../agent/telemetry/disk-health.ts';
import { listDisks, sampleDisks } from '../../agent/telemetry/disks.ts';
import { type HealthFactInit, HealthFacts } from '../../agent/telemetry/health-facts.ts';
import { HostWatch } from '../../agent/telemetry/host-watch.ts';
import { Sensors } from '../../agent/telemetry/sensors.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { DISK_VALUES } from '../../proto/telemetry-schema/disk.ts';
import { eventually } from '../eventually.ts';

/** What a slow sample says of disks, and the facts that came of it. */
export interface Looked {
	/** By id, then by key; absent ones are left out. */
	readonly values: ReadonlyMap<string, Readonly<Record<string, number>>>;
	readonly facts: readonly { id: string; code: string; after: number; raw: string; ongoing: boolean }[];
}

/** The disks of a host as its agent reads them, on files that stand for /sys; hours pass when the test says so. */
export class DiskHost implements Disposable {
	readonly clock = new VirtualClock();
	readonly reader: DiskHealthReader;
	readonly #sysRoot: string;
	readonly #sensors: Sensors;
	readonly #sent: HealthFactInit[] = [];
	readonly #watch: HostWatch;
	readonly #hangs: DiskHangWatch;

	/** `kept`: what the agent before this one said to be bad. */
	constructor(root: string, options: Partial<DiskHealthOptions>, kept: { bad?: string } = {}) {
		const { clock } = this;
		this.#sysRoot = join(root, 'sys');
		const facts = new HealthFacts({
			...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => false },
			append: (fact) => this.#sent.push(fact),
			bad: { get: () => kept.bad, put: (value) => Object.assign(kept, { bad: value }) },
		});
		this.#watch = new HostWatch(facts);
		this.#hangs = new DiskHangWatch(facts);
		this.#sensors = new Sensors(this.#sysRoot);
		const folder = join(root, 'disks');
		this.reader = new DiskHealthReader({ clock, log: silentLogger, sysRoot: this.#sysRoot, folder, ...options });
	}

	/** As each slow sample does. */
	look(): Looked {
		const roots = { procRoot: join(this.#sysRoot, '../proc'), sysRoot: this.#sysRoot };
		this.reader.look();
		const disks = sampleDisks(roots, this.#sensors, (device) => this.reader.of(device));
		this.#sent.length = 0;
		this.#watch.observe(new Float64Array(), { ibPorts: [], disks }, this.clock.monotonic());
		const hasAnswered = (device: string) => this.reader.hasAnswered(device);
		this.#hangs.observe(listDisks(this.#sysRoot), this.reader.hung, hasAnswered);
		const values = disks.map(({ id, values: row }) => {
			const all = DISK_VALUES.map(({ key }, at): [string, number] => [key, row[at] ?? Number.NaN]);
			return [id, Object.fromEntries(all.filter(([, value]) => !Number.isNaN(value)))] as const;
		});
		const facts = this.#sent.map(({ subject, code = '', after = 0, raw = '', ongoing = false }) => ({
			...{ id: subject?.id ?? '', code, after, raw, ongoing },
		}));
		return { values: new Map(values), facts };
	}

	/** Looks until it is so; with the facts of all looks until then. */
	async until(what: string, isSo: (looked: Looked) => boolean): Promise<Looked> {
		const facts: Looked['facts'][number][] = [];
		return await eventually(what, () => {
			const looked = this.look();
			facts.push(...looked.facts);
			return isSo(looked) && { ...looked, facts };
		});
	}

	[Symbol.dispose](): void {
		this.reader[Symbol.dispose]();
	}
}

/** A whole disk of that host: `sda`, or `nvme0n1` with its controller. */
export function addDisk(root: string, device: string): void {
	const path = join(root, `sys/block/${device}/device/serial`);
	mkdirSync(dirname(path), { recursive: true });
	writeFileSync(path, `SERIAL-${device}\n`);
	const controller = /^nvme\d+/.exec(device)?.[0];
	if (controller !== undefined) mkdirSync(join(root, `sys/class/nvme/${controller}`), { recursive: true });
}
