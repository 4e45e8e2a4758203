import type { Clock } from '../../kit/clock.ts';
import { NO_GPU } from './call-trace.ts';
import { Events, MIG_CONFIGURED } from './events.ts';
import { answers, countGpus, type Gpu, listGpus, releaseGpus } from './gpu.ts';
import { readGpuSlowValues } from './gpu-slow-values.ts';
import { goneRow, readGpuValues } from './gpu-values.ts';
import { readIdentity } from './identity.ts';
import type { Nvml } from './library.ts';
import { readNvlinkValues } from './nvlink-values.ts';
import { Processes, type ProcessList } from './processes.ts';
import type {
	GpuIdentity,
	GpuInventory,
	OpenedDriver,
	PartValues,
	ProbeEvent,
	ProbeFault,
	ProbeSample,
} from './protocol.ts';
import { GpuGone, Reader } from './reader.ts';
import { DriverFault, faultOf, isGpuGone, NVML } from './returns.ts';
import { readSliceValues, type Slice } from './slices.ts';

/** Between two lists for the sake of slices that answer errors: one that always does must not cost each sample a list. */
const SLICE_LIST_MS = 60_000;

/**
 * The opened driver: a list of GPUs, and samples of all of them. The list is read again when their number changes, when
 * MIG was configured, when a slice is not there any more and when one that was silent answers. Everything here is
 * synchronous and may hang. Held by the probe's main; nothing outlives `close`.
 */
export class Driver {
	readonly #reader: Reader;
	readonly #clock: Clock;
	readonly #onGpu: (index: number) => void;
	readonly #processes = new Processes();
	#gpus: readonly Gpu[] = [];
	#silent: GpuInventory['silent'] = [];
	#events: Events | undefined;
	/** What came before the list was read again, for the next sample. */
	#former: readonly ProbeEvent[] = [];
	#count = 0;
	#isStale = false;
	#sliceStaleAtMs = Number.NEGATIVE_INFINITY;

	private constructor(nvml: Nvml, clock: Clock, onGpu: (index: number) => void) {
		this.#reader = new Reader(nvml);
		this.#clock = clock;
		this.#onGpu = onGpu;
	}

	static open(nvml: Nvml, clock: Clock, onGpu: (index: number) => void): Driver | ProbeFault {
		onGpu(NO_GPU);
		const code = nvml.call('nvmlInit_v2');
		return code === NVML.success ? new Driver(nvml, clock, onGpu) : faultOf(code);
	}

	describe(): OpenedDriver {
		const reader = this.#reader;
		const { nvml } = reader;
		return {
			driver: reader.text('nvmlSystemGetDriverVersion', undefined, 80),
			nvml: reader.text('nvmlSystemGetNVMLVersion', undefined, 80),
			cuda: cudaVersion(reader),
			isSimulated: nvml.isSimulated,
			missing: nvml.missing,
		};
	}

	/** Reads the list of GPUs and what they are. */
	inventory(): GpuInventory {
		this.#list(this.#recount());
		const gpus: GpuIdentity[] = [];
		const silent = [...this.#silent];
		for (const gpu of this.#gpus) {
			this.#onGpu(gpu.index);
			const identity = this.#whilePresent(() => readIdentity(this.#reader, gpu));
			if (typeof identity === 'number') silent.push({ index: gpu.index, code: identity });
			else gpus.push(identity);
		}
		return { gpus, silent };
	}

	/** Throws what makes the whole driver useless; one GPU that is gone is a row that says so. */
	sample(slow: boolean, withProcesses = false): ProbeSample {
		const startedAtMs = this.#clock.monotonic();
		this.#onGpu(NO_GPU);
		const count = this.#recount();
		const isListChanged = this.#isStale || count !== this.#count || (slow && this.#hasReturned());
		if (isListChanged) this.#list(count);
		const gpus: PartValues[] = [];
		const slices: PartValues[] = [];
		const slowGpus: PartValues[] = [];
		const nvlinks: PartValues[] = [];
		const processes: ProcessList[] = [];
		for (const gpu of this.#gpus) {
			this.#onGpu(gpu.index);
			const code = this.#whilePresent(() => {
				gpus.push(this.#fast(gpu));
				for (const slice of gpu.slices) slices.push(this.#slice(slice));
				if (!slow) return undefined;
				const links = this.#links(gpu);
				slowGpus.push(
					part(
						gpu.uuid,
						gpu.index,
						readGpuSlowValues(
							this.#reader,
							gpu,
							links.map(({ errors }) => errors),
						).values,
					),
				);
				nvlinks.push(...links.map(({ row }, link) => part(gpu.uuid, link, row.values)));
				if (withProcesses) processes.push(this.#processes.read(this.#reader, gpu));
				return undefined;
			});
			if (code === undefined) continue;
			// What was read before it left would pass for a whole sample of it.
			if (gpus.at(-1)?.id === gpu.uuid) gpus.pop();
			gpus.push(part(gpu.uuid, gpu.index, goneRow(code).values));
		}
		this.#onGpu(NO_GPU);
		return {
			gpus,
			slices,
			slow: slow
				? { gpus: slowGpus, nvlinks, ...(withProcesses ? { processes: together(processes) } : {}) }
				: undefined,
			events: this.#drain(),
			cost: this.#cost(startedAtMs),
			isListChanged,
		};
	}

	close(): void {
		this.#release();
		this.#reader.nvml.call('nvmlShutdown');
	}

	#fast(gpu: Gpu): PartValues {
		const { nvml } = this.#reader;
		nvml.markGpu();
		const row = readGpuValues(this.#reader, gpu);
		row.set('nvml.call_max', nvml.gpuMaxMs / 1000);
		return part(gpu.uuid, gpu.index, row.values);
	}

	#slice(slice: Slice): PartValues {
		const { row, isStale } = readSliceValues(this.#reader, slice);
		const nowMs = this.#clock.monotonic();
		if (isStale && nowMs - this.#sliceStaleAtMs >= SLICE_LIST_MS) {
			this.#sliceStaleAtMs = nowMs;
			this.#isStale = true;
		}
		return part(slice.uuid, slice.index, row.values);
	}

	#links(gpu: Gpu): ReturnType<typeof readNvlinkValues>[] {
		return Array.from({ length: gpu.nvlinks }, (_, link) => readNvlinkValues(this.#reader, gpu, link));
	}

	/** Where the driver answers for all of them that one is gone, the number that is known stays, and each is asked. */
	#recount(): number {
		try {
			return countGpus(this.#reader);
		} catch (error) {
			if (error instanceof DriverFault && isGpuGone(error.code) && this.#count > 0) return this.#count;
			throw error;
		}
	}

	/** A silent one that is well again changes no number. */
	#hasReturned(): boolean {
		return this.#silent.some(({ index }) => {
			this.#onGpu(index);
			return answers(this.#reader, index);
		});
	}

	#drain(): readonly ProbeEvent[] {
		const events = this.#events?.drain(this.#reader) ?? [];
		if (events.some(({ type }) => (type & MIG_CONFIGURED) !== 0)) this.#isStale = true;
		const all = [...this.#former, ...events];
		this.#former = [];
		return all;
	}

	/** Forgets what it frees first: a list that fails must not leave anything to be freed twice. */
	#release(): void {
		const [events, gpus] = [this.#events, this.#gpus];
		this.#events = undefined;
		this.#gpus = [];
		events?.free(this.#reader);
		releaseGpus(this.#reader, gpus);
	}

	#list(count: number): void {
		this.#former = this.#drain();
		this.#release();
		this.#isStale = false;
		const { gpus, silent } = listGpus(this.#reader, count, this.#onGpu);
		this.#gpus = gpus;
		this.#silent = silent;
		this.#count = gpus.length + silent.length;
		this.#events = Events.open(this.#reader, gpus);
	}

	#whilePresent<T>(work: () => T): T | number {
		try {
			return work();
		} catch (error) {
			if (error instanceof GpuGone) return error.code;
			throw error;
		}
	}

	#cost(startedAtMs: number): ProbeSample['cost'] {
		const { calls, maxMs, maxCall } = this.#reader.nvml.takeCost();
		const { userCPUTime, systemCPUTime } = process.resourceUsage();
		return {
			sampleMs: this.#clock.monotonic() - startedAtMs,
			calls,
			callMaxMs: maxMs,
			callMax: maxCall,
			rssBytes: process.memoryUsage.rss(),
			cpuSeconds: (userCPUTime + systemCPUTime) / 1e6,
		};
	}
}

const cudaRoom = Buffer.alloc(4);

function cudaVersion(reader: Reader): number {
	return reader.call('nvmlSystemGetCudaDriverVersion_v2', cudaRoom) ? cudaRoom.readUInt32LE(0) : 0;
}

function together(lists: readonly ProcessList[]): ProcessList {
	return {
		processes: lists.flatMap(({ processes }) => processes),
		leftOut: lists.reduce((sum, { leftOut }) => sum + leftOut, 0),
	};
}

function part(id: string, index: number, values: Float64Array): PartValues {
	return { id, index, values };
}
