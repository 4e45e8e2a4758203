import type { CallName } from './calls.ts';
import type { Gpu } from './gpu.ts';
import { LAYOUT } from './layout.ts';
import type { ProcessValues } from './protocol.ts';
import { type Reader, throwWhenGone } from './reader.ts';
import { NVML } from './returns.ts';

/**
 * The processes of each GPU and MIG device, asked only where the owner of the host switched it on: who uses how much. What
 * NVML doesn't say of one is NaN. Of each thing those with the most memory count; the rest is left out and counted.
 */
export interface ProcessList {
	readonly processes: readonly ProcessValues[];
	readonly leftOut: number;
}

const LISTS: readonly CallName[] = [
	'nvmlDeviceGetComputeRunningProcesses_v3',
	'nvmlDeviceGetGraphicsRunningProcesses_v3',
	'nvmlDeviceGetMPSComputeRunningProcesses_v3',
];
const PER_THING_MAX = 32;
/** More than this on one GPU is no list any more. */
const ROOM_MAX = 4096;
/** Between the two questions some may come. */
const SLACK = 16;
/** NVML_VALUE_NOT_AVAILABLE. */
const NOT_AVAILABLE = 0xffff_ffff_ffff_ffffn;
const PERCENT = 100;

const INFO = LAYOUT.nvmlProcessInfo_t;
const USE = LAYOUT.nvmlProcessUtilizationSample_t;
const countRoom = Buffer.alloc(4);

export class Processes {
	/** Of each GPU the newest sample of utilisation that was taken, in the driver's microseconds. */
	readonly #lastSeen = new Map<string, bigint>();

	/** Throws GpuGone. */
	read(reader: Reader, gpu: Gpu): ProcessList {
		if (gpu.slices.length === 0) return this.#of(reader, gpu.uuid, gpu.handle, this.#utilisation(reader, gpu));
		const lists = gpu.slices.map(({ uuid, handle }) => this.#of(reader, uuid, handle, new Map()));
		return {
			processes: lists.flatMap(({ processes }) => processes),
			leftOut: lists.reduce((sum, { leftOut }) => sum + leftOut, 0),
		};
	}

	#of(reader: Reader, id: string, handle: number, utilisation: ReadonlyMap<number, number>): ProcessList {
		const byPid = new Map<number, number>();
		for (const name of LISTS)
			for (const [pid, bytes] of listed(reader, name, handle)) {
				const former = byPid.get(pid) ?? Number.NaN;
				// One that computes and draws is in two lists with one memory.
				byPid.set(pid, Number.isNaN(former) ? bytes : Math.max(former, Number.isNaN(bytes) ? 0 : bytes));
			}
		const order = (bytes: number) => (Number.isNaN(bytes) ? -1 : bytes);
		const all = [...byPid].toSorted(([, left], [, right]) => order(right) - order(left));
		const processes = all
			.slice(0, PER_THING_MAX)
			.map(([pid, memoryBytes]) => ({ id, pid, memoryBytes, sm: utilisation.get(pid) ?? Number.NaN }));
		return { processes, leftOut: all.length - processes.length };
	}

	/** By pid, of the time since the last look. A process that did nothing then has none. Not supported under MIG. */
	#utilisation(reader: Reader, { uuid, handle }: Gpu): ReadonlyMap<number, number> {
		const since = this.#lastSeen.get(uuid) ?? 0n;
		const room = ask(USE.size, (buffer) =>
			reader.nvml.call('nvmlDeviceGetProcessUtilization', handle, buffer, countRoom, since),
		);
		const newest = new Map<number, { readonly at: bigint; readonly sm: number }>();
		for (let at = 0; at < (room?.length ?? 0); at += USE.size) {
			const pid = room?.readUInt32LE(at + USE.offsets.pid) ?? 0;
			const time = room?.readBigUInt64LE(at + USE.offsets.timeStamp) ?? 0n;
			const sm = (room?.readUInt32LE(at + USE.offsets.smUtil) ?? 0) / PERCENT;
			if (pid !== 0 && time > (newest.get(pid)?.at ?? 0n)) newest.set(pid, { at: time, sm });
			if (time > (this.#lastSeen.get(uuid) ?? 0n)) this.#lastSeen.set(uuid, time);
		}
		return new Map([...newest].map(([pid, { sm }]) => [pid, sm]));
	}
}

function listed(reader: Reader, name: CallName, handle: number): readonly (readonly [pid: number, bytes: number])[] {
	const room = ask(INFO.size, (buffer) => reader.nvml.call(name, handle, countRoom, buffer));
	if (room === undefined) return [];
	return Array.from({ length: room.length / INFO.size }, (_, index) => {
		const at = index * INFO.size;
		const used = room.readBigUInt64LE(at + INFO.offsets.usedGpuMemory);
		return [room.readUInt32LE(at + INFO.offsets.pid), used === NOT_AVAILABLE ? Number.NaN : Number(used)] as const;
	});
}

/** First without room, to be told how much it takes. Undefined where the driver doesn't say, or there are too many. */
function ask(size: number, call: (buffer: Buffer) => number): Buffer | undefined {
	let room = Buffer.alloc(size);
	countRoom.writeUInt32LE(0, 0);
	let code = call(room);
	throwWhenGone(code);
	if (code !== NVML.insufficientSize) return undefined;
	const wanted = countRoom.readUInt32LE(0) + SLACK;
	if (wanted > ROOM_MAX) return undefined;
	room = Buffer.alloc(size * wanted);
	countRoom.writeUInt32LE(wanted, 0);
	code = call(room);
	throwWhenGone(code);
	return code === NVML.success ? room.subarray(0, Math.min(wanted, countRoom.readUInt32LE(0)) * size) : undefined;
}
