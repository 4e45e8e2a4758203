import type { Gpu } from './gpu.ts';
import { LAYOUT } from './layout.ts';
import { allocate, readHandle } from './library.ts';
import type { ProbeEvent } from './protocol.ts';
import { GpuGone, type Reader } from './reader.ts';
import { NVML } from './returns.ts';

/**
 * The driver's own events, a second source beside the kernel log: they have no time and no history, and are taken with
 * each sample without waiting. Only types that the GPU supports are asked for, else none is registered.
 */
const XID = 0x8n;
/** SBE, DBE, XID, MIG, SBE storm, DRAM retirement and its failure, poison, GPU unavailable, recovery action. */
export const MIG_CONFIGURED = 0x100;
const WANTED =
	0x1n | 0x2n | XID | BigInt(MIG_CONFIGURED) | 0x200n | 0x400n | 0x800n | 0x1000n | 0x2000n | 0x4000n | 0x8000n;
const EVENTS_MAX = 64;

const room = Buffer.alloc(8);
const data = allocate('nvmlEventData_t');

export class Events {
	readonly #set: number;
	readonly #byHandle: ReadonlyMap<number, string>;

	private constructor(set: number, byHandle: ReadonlyMap<number, string>) {
		this.#set = set;
		this.#byHandle = byHandle;
	}

	static open(reader: Reader, gpus: readonly Gpu[]): Events | undefined {
		if (reader.nvml.call('nvmlEventSetCreate', room) !== NVML.success) return undefined;
		const set = readHandle(room);
		for (const { handle } of gpus) register(reader, set, handle);
		return new Events(set, new Map(gpus.map(({ handle, uuid }) => [handle, uuid])));
	}

	/** What came since the last look. */
	drain(reader: Reader): readonly ProbeEvent[] {
		const events: ProbeEvent[] = [];
		const { device, eventType, eventData, gpuInstanceId } = LAYOUT.nvmlEventData_t.offsets;
		while (events.length < EVENTS_MAX) {
			const code = reader.nvml.call('nvmlEventSetWait_v2', this.#set, data, 0);
			if (code !== NVML.success) break;
			const type = Number(data.readBigUInt64LE(eventType));
			events.push({
				uuid: this.#byHandle.get(readHandle(data, device)) ?? '',
				type,
				xid: (BigInt(type) & XID) === 0n ? undefined : Number(data.readBigUInt64LE(eventData)),
				gpuInstance: data.readUInt32LE(gpuInstanceId),
			});
		}
		return events;
	}

	free(reader: Reader): void {
		reader.nvml.call('nvmlEventSetFree', this.#set);
	}
}

/** A GPU that left since it was listed has no events, and must not cost the others theirs. */
function register(reader: Reader, set: number, handle: number): void {
	try {
		if (!reader.call('nvmlDeviceGetSupportedEventTypes', handle, room)) return;
		const types = room.readBigUInt64LE(0) & WANTED;
		if (types !== 0n) reader.call('nvmlDeviceRegisterEvents', handle, types, set);
	} catch (error) {
		if (!(error instanceof GpuGone)) throw error;
	}
}
